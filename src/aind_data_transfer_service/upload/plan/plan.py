"""What will be sent, decided before anything is: a value that can be printed and tested."""

import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.plain_text import first_lines, listed, shown
from aind_data_transfer_service.upload.plan.items import FileItems, Item, StreamedItem
from aind_data_transfer_service.upload.source.sample import Sample

MEBI = 1024**2
PART_SIZE = 8 * MEBI
"""Files up to this size travel in one request, larger ones in parts that are no smaller. S3 takes
none below 5 MiB. What is on its way when a job is killed is sent again, so parts are no larger
than is of use: at this size a request costs little beside its bytes."""
_MOST_PARTS = 9_000  # of the 10,000 that S3 allows, unless the largest parts are too small then
_LARGEST_PART = 5 * 1024**3


def sizes_of(items: Sequence[Item]) -> Iterator[int]:
    """Tell how many bytes each item can have at the destination at most."""
    if isinstance(items, Series):
        return itertools.chain.from_iterable(map(sizes_of, items.parts))
    if isinstance(items, FileItems):
        return items.files.sizes()
    if isinstance(items, Picked):
        return items.sizes()
    return (item.largest_size for item in items)


class Series(Sequence[Item]):
    """Items one after another, without copying them.

    Parameters
    ----------
    parts : Iterable[Sequence[Item]]
        The items of each source.
    """

    def __init__(self, parts: Iterable[Sequence[Item]] = ()):
        self.parts = [part for part in parts if part]
        self._starts = [0, *itertools.accumulate(len(part) for part in self.parts)]

    def find(self, key: str) -> int | None:
        """Tell at which place the item of a key stands."""
        for part, start in zip(self.parts, self._starts):
            if isinstance(part, FileItems):
                place = part.find(key)
            else:
                place = next((i for i, item in enumerate(part) if item.key == key), None)
            if place is not None:
                return start + place
        return None

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, place: int) -> Item:  # type: ignore[override]
        place = range(len(self))[place]
        part = bisect_right(self._starts, place) - 1
        return self.parts[part][place - self._starts[part]]

    def __iter__(self) -> Iterator[Item]:
        return itertools.chain.from_iterable(self.parts)


class Picked(Sequence[Item]):
    """Some of many items, by their places.

    Parameters
    ----------
    items : Sequence[Item]
        All of them.
    places : Sequence[int]
        Which of them.
    """

    def __init__(self, items: Sequence[Item], places: Sequence[int]):
        self._items, self._places = items, places

    def sizes(self) -> Iterator[int]:
        """Tell how many bytes each can have at the destination at most."""
        all_sizes = array("Q", sizes_of(self._items))
        return (all_sizes[place] for place in self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Item:  # type: ignore[override]
        return self._items[self._places[place]]

    def __iter__(self) -> Iterator[Item]:
        return map(self._items.__getitem__, self._places)


def in_order(items: Sequence[Item], threshold: int = PART_SIZE) -> tuple[Picked, Picked]:
    """Share items out to two lanes: the large ones, the largest first, and the small ones.

    The two are sent side by side, the small ones in the order of their names, so that neither the
    link nor the rate of requests idles, and so that no large file is left for the end.

    Parameters
    ----------
    items : Sequence[Item]
        What is to be sent.
    threshold : int
        Up to how many bytes an item is small.
    """
    large, small = array("Q"), array("Q")
    sizes = array("Q")
    for place, size in enumerate(sizes_of(items)):
        if size > threshold:
            large.append(place)
            sizes.append(size)
        else:
            small.append(place)
    by_size = sorted(range(len(large)), key=sizes.__getitem__, reverse=True)
    return Picked(items, array("Q", (large[i] for i in by_size))), Picked(items, small)


@dataclass(frozen=True)
class Compression:
    """What a transform does to the data of a modality."""

    notes: str
    """What is done, for people."""
    parameters: Mapping[str, Any]
    items: Sequence[Item]
    """What is made of the data."""


@dataclass(frozen=True)
class Plan:
    """Everything that one job will send."""

    prefix: str
    """Name of the asset."""
    location: str
    """Where the asset will be."""
    items: Series = field(default_factory=Series)
    documents: list[str] = field(default_factory=list)
    """Names of the metadata documents, at the root of the asset."""
    empty_folders: Sample[str] = field(default_factory=Sample)
    left_out: Sample[str] = field(default_factory=Sample)
    excluded: Sample[str] = field(default_factory=Sample)
    """Places of files and folders whose names are excluded."""
    links: Sample[dict[str, str]] = field(default_factory=Sample)
    """The `path` of each link that was followed, and its `target`."""
    broken_links: Sample[str] = field(default_factory=Sample)
    """What is wrong with links that are left out."""
    compressions: Sequence[Compression] = ()
    """What is done to data on the way."""

    @cached_property
    def files_total(self) -> int:
        """How many files of the source will be read."""
        return sum(
            len(part) if isinstance(part, FileItems) else sum(item.file_count for item in part)
            for part in self.items.parts
        )

    @cached_property
    def bytes_total(self) -> int:
        """How many bytes of the source will be read."""
        return sum(
            (
                part.files.size
                if isinstance(part, FileItems)
                else sum(item.source_size for item in part)
            )
            for part in self.items.parts
        )

    def check(self, object_limit: int | None) -> None:
        """Make sure that everything fits, and that no two files want the same place.

        Raises
        ------
        SourceError
            Where it does not.
        """
        problems = [
            f"{shown(key)} is the place of two files in the asset; rename or remove one of them"
            for key in self._repeated()
        ]
        if object_limit is not None:
            problems += (
                f"{shown(self.items[place].key)} can have {size:,} bytes, of {object_limit:,} that "
                "an object may have; split it"
                for place, size in enumerate(sizes_of(self.items))
                if size > object_limit
            )
        if problems:
            raise SourceError(listed(problems))

    def _repeated(self) -> Iterator[str]:
        """Give keys that more than one item or document would have.

        Keys of different folders differ, and names of one folder are in their order: so only
        sources that go to the same folder are compared file by file.
        """
        folders: set[str] = set()
        for place, part in enumerate(self.items.parts):
            earlier = Series(self.items.parts[:place])
            if isinstance(part, FileItems):
                folder = part.files.tree.folder
                yield from (f"{folder}/{name}" for name in part.files.repeated())
                if folder not in folders:
                    folders.add(folder)
                    earlier = Series(p for p in earlier.parts if not isinstance(p, FileItems))
            if earlier:
                yield from (item.key for item in part if earlier.find(item.key) is not None)
        yield from (name for name in self.documents if self.items.find(name) is not None)

    def lines(self) -> Iterator[str]:
        """Write the plan for people, in the order in which it is sent."""
        yield f"{self.files_total:,} files, {self.bytes_total:,} bytes to {self.location}"
        if not self.files_total:
            yield "  no files: the asset will hold its documents and nothing else"
        for item in itertools.chain(*in_order(self.items)):
            kind = item.description if isinstance(item, StreamedItem) else "as it is"
            yield f"  {item.key}  {item.source_size:,} bytes, {kind}"
        for name in self.documents:
            yield f"  {name}  document"
        yield from _lines(
            self.empty_folders, "{}/  empty, left out", "empty folder", "empty folders"
        )
        yield from _lines(
            self.left_out, "{}  holds no data, left out", "file without data", "files without data"
        )
        yield from _lines(
            self.excluded, "{}  excluded by its name", "excluded name", "excluded names"
        )
        yield from _lines(self.links, "{0[path]}  link to {0[target]}", "link", "links")
        yield from _lines(self.broken_links, "left out: {}", "broken link", "broken links")

    def as_json(self) -> dict[str, Any]:
        """Write the plan for programs: all but the items, of which there may be a million."""
        return {
            "asset": self.prefix,
            "location": self.location,
            "files": self.files_total,
            "bytes": self.bytes_total,
            "objects": len(self.items) + len(self.documents),
            "documents": self.documents,
            **self.empty_folders.fields("empty_folders"),
            **self.left_out.fields("left_out"),
            **self.excluded.fields("excluded"),
            **self.links.fields("links"),
            **self.broken_links.fields("broken_links"),
        }


def _lines(values: Sample[Any], layout: str, singular: str, plural: str) -> Iterator[str]:
    """Write the values that are listed, a line each, and how many more there are."""
    lines = list(map(layout.format, values.first))
    shown = first_lines(lines, len(lines), singular, plural, values.total)
    return (f"  {line}" for line in shown)


def part_size(largest_size: int) -> int:
    """Choose the size of a file's parts, so that there are never too many."""
    needed = -(-largest_size // _MOST_PARTS)
    return min(_LARGEST_PART, max(PART_SIZE, -(-needed // MEBI) * MEBI))
