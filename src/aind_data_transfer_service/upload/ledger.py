"""What a job remembers of uploads in parts that it has not completed, in its journal.

Each begun upload and each part that has arrived is a line of its own, written at once: whatever
ends the job, the next one knows which parts it need not send.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from aind_data_transfer_service.upload.manifest import Journal
from aind_data_transfer_service.upload.plan import Series


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an object that the server has."""

    number: int
    size: int
    etag: str
    checksum: str
    """As S3 writes it; empty where the server does not tell."""


@dataclass(frozen=True)
class Begun:
    """An upload in parts, as it was begun, and what of it has arrived."""

    upload_id: str
    part_size: int
    algorithm: str
    """How the parts are guarded."""
    source: str
    """What changes when the source does."""
    parts: dict[int, Part] = field(default_factory=dict)


class Ledger:
    """The uploads of one transfer. May be used from several threads at once.

    Parameters
    ----------
    journal : Journal
        Where they are noted.
    others : Iterable[Journal]
        Where others noted what they did not complete.
    """

    def __init__(self, journal: Journal, others: Iterable[Journal] = ()):
        self._journal = journal
        self._begun: dict[str, Begun] = {}
        for line in itertools.chain.from_iterable(one.notes() for one in (*others, journal)):
            self._take(line)

    def uploads(self) -> Iterator[tuple[str, Begun]]:
        """Give every upload that was begun and, as far as is known, not completed."""
        yield from list(self._begun.items())

    def leave_out(self, items: Series, there: Sequence[int]) -> None:
        """Forget the uploads of items that are there."""
        for path, _ in self.uploads():
            place = items.find(path)
            if place is not None and there[place]:
                self.close(path)

    def close(self, path: str) -> None:
        """Forget an upload that is completed."""
        self._begun.pop(path, None)

    def upload_ids(self, items: Series) -> set[str]:
        """Tell which uploads can go on, for their sources are what they were.

        Parameters
        ----------
        items : Series
            What is to be sent.
        """
        places = ((begun, items.find(path)) for path, begun in self.uploads())
        return {
            begun.upload_id
            for begun, place in places
            if place is not None and items[place].fingerprint == begun.source
        }

    def page(self, path: str, source: str) -> "Page":
        """Open what is noted of one file."""
        return Page(self, path, source)

    def begun(self, path: str, source: str) -> Begun | None:
        """Tell of the upload of a file that is still what it was."""
        begun = self._begun.get(path)
        return begun if begun is not None and begun.source == source else None

    def note(self, line: dict[str, Any]) -> None:
        """Note something new."""
        self._take(line)
        self._journal.note(line)

    def _take(self, line: dict[str, Any]) -> None:
        """Understand a line of the journal; one that cannot be read has a part sent again."""
        try:
            if "upload" in line:
                self._begun[line["path"]] = Begun(**line["upload"])
            elif "part" in line:
                begun = self._begun[line["path"]]
                if begun.upload_id == line["of"]:
                    part = Part(**line["part"])
                    begun.parts[part.number] = part
        except (KeyError, TypeError):
            return


@dataclass(frozen=True)
class Page:
    """What is noted of one file."""

    ledger: Ledger
    path: str
    source: str

    def begun(self) -> Begun | None:
        """Tell what has begun of it."""
        return self.ledger.begun(self.path, self.source)

    def begin(self, upload_id: str, part_size: int, algorithm: str) -> Self:
        """Note that an upload begins."""
        begun = Begun(upload_id, part_size, algorithm, self.source)
        upload = {name: value for name, value in asdict(begun).items() if name != "parts"}
        self.ledger.note({"upload": upload, "path": self.path})
        return self

    def add(self, upload_id: str, part: Part) -> None:
        """Note that a part has arrived."""
        self.ledger.note({"part": asdict(part), "of": upload_id, "path": self.path})

    def close(self) -> None:
        """Forget the upload: it is completed."""
        self.ledger.close(self.path)
