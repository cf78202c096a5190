"""What will be sent, decided before anything is: a value that can be printed and tested."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.upload.manifest import Entry
from aind_data_transfer_service.upload.source import listed
from aind_data_transfer_service.upload.store import StoredObject
from aind_data_transfer_service.upload.transforms import Item, ZipItem

MEBI = 1024**2
PART_SIZE = 8 * MEBI
"""Files up to this size travel in one request, larger ones in parts of at least this size."""
_MOST_PARTS = 9_000  # of the 10,000 that S3 allows


@dataclass(frozen=True)
class Plan:
    """Everything that one job will send."""

    prefix: str
    """Name of the asset."""
    location: str
    """Where the asset will be."""
    items: list[Item] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    """Names of the metadata documents, at the root of the asset."""
    empty_folders: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def files_total(self) -> int:
        """How many files of the source will be read."""
        return sum(item.file_count for item in self.items)

    @property
    def bytes_total(self) -> int:
        """How many bytes of the source will be read."""
        return sum(item.source_size for item in self.items)

    def paths(self) -> set[str]:
        """Name every place in the asset that will be filled."""
        return {item.key for item in self.items} | set(self.documents)

    def check(self, object_limit: int | None) -> None:
        """Make sure that everything fits, and that no two files want the same place.

        Raises
        ------
        SourceError
            Where it does not.
        """
        limit = object_limit or 0
        problems = [
            f"{item.key} can have {item.largest_size:,} bytes, of {limit:,} that an object may have"
            for item in self.items
            if limit and item.largest_size > limit
        ]
        if problems:
            raise SourceError(listed(problems))

    def lines(self) -> Iterator[str]:
        """Write the plan for people."""
        yield f"{self.files_total:,} files, {self.bytes_total:,} bytes to {self.location}"
        for item in self.items:
            kind = f"zip of {item.file_count:,} files" if isinstance(item, ZipItem) else "as it is"
            yield f"  {item.key}  {item.source_size:,} bytes, {kind}"
        for name in self.documents:
            yield f"  {name}  document"
        for name in self.empty_folders:
            yield f"  {name}/  empty, left out"
        for name in self.left_out:
            yield f"  {name}  holds no data, left out"


def part_size(largest_size: int) -> int:
    """Choose the size of a file's parts, so that there are never too many."""
    needed = -(-largest_size // _MOST_PARTS)
    return max(PART_SIZE, -(-needed // MEBI) * MEBI)


def already_there(
    items: list[Item], known: Mapping[str, Entry], stored: Mapping[str, StoredObject]
) -> list[Entry]:
    """Tell which items need not be sent: recorded, unchanged since, and listed as recorded.

    Parameters
    ----------
    items : list[Item]
        What is to be sent.
    known : Mapping[str, Entry]
        By path, what a journal or manifest says of earlier transfers.
    stored : Mapping[str, StoredObject]
        By path, what the store lists.
    """
    return [
        entry
        for item in items
        if (entry := known.get(item.key)) is not None
        and entry.source == item.fingerprint
        and entry.is_stored_as(stored.get(item.key))
    ]
