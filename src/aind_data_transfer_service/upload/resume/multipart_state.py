"""What a job remembers of uploads in parts that it has not completed, in its journal.

Each begun upload and each part that has arrived is a line of its own, written at once: whatever
ends the job, the next one knows which parts it need not send.
"""

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from aind_data_transfer_service.storage.model import Begun, Part
from aind_data_transfer_service.upload.manifest.journal import Forgotten, Journal
from aind_data_transfer_service.upload.plan.plan import Series


class _Opened(msgspec.Struct, frozen=True, tag_field="note", tag="upload"):
    """A note that an upload in parts begins."""

    path: str
    upload: Begun


class _Arrived(msgspec.Struct, frozen=True, tag_field="note", tag="part"):
    """A note that a part has arrived."""

    path: str
    upload_id: str
    part: Part


_Note = _Opened | _Arrived | Forgotten
_DECODER = msgspec.json.Decoder(_Note)


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
        self._ids: set[str] = set()
        for line in itertools.chain.from_iterable(one.notes() for one in (*others, journal)):
            with contextlib.suppress(msgspec.DecodeError):  # costs time: the part is sent again
                self._take(_DECODER.decode(line))

    def uploads(self) -> Iterator[tuple[str, Begun]]:
        """Give every upload that was begun and, as far as is known, not completed."""
        yield from list(self._begun.items())

    @property
    def bytes_arrived(self) -> int:
        """How many bytes of uploads that are not completed have arrived."""
        return sum(part.size for _, begun in self.uploads() for part in list(begun.parts.values()))

    def leave_out(self, items: Series, there: Sequence[int]) -> None:
        """Forget the uploads of items that are there."""
        for path, _ in self.uploads():
            place = items.find(path)
            if place is not None and there[place]:
                self.close(path)

    def close(self, path: str) -> None:
        """Forget an upload that is completed."""
        self._begun.pop(path, None)

    def closed_ids(self) -> set[str]:
        """Return the ids of uploads that were begun and that nothing goes on with."""
        return self._ids - {begun.upload_id for begun in self._begun.values()}

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

    def checkpoint_for(self, path: str, source: str) -> "FileCheckpoint":
        """Return the checkpoint of one file."""
        return FileCheckpoint(self, path, source)

    def begun(self, path: str, source: str) -> Begun | None:
        """Tell of the upload of a file that is still what it was."""
        begun = self._begun.get(path)
        return begun if begun is not None and begun.source == source else None

    def note(self, note: _Note) -> None:
        """Note something new."""
        self._take(note)
        self._journal.note(note)

    def _take(self, note: _Note) -> None:
        """Go by a note; the newest of a file holds."""
        if isinstance(note, Forgotten):
            self.close(note.path)
        elif isinstance(note, _Opened):
            self._begun[note.path] = note.upload
            self._ids.add(note.upload.upload_id)
        else:
            known = self._begun.get(note.path)
            if known is not None and known.upload_id == note.upload_id:
                known.parts[note.part.number] = note.part


def noted_ids(journals: Iterable[Journal]) -> set[str]:
    """Read the ids of all uploads that were ever begun, by their journals."""
    ids = set()
    for line in itertools.chain.from_iterable(journal.notes() for journal in journals):
        with contextlib.suppress(msgspec.DecodeError):
            note = _DECODER.decode(line)
            if isinstance(note, _Opened):
                ids.add(note.upload.upload_id)
    return ids


@dataclass(frozen=True)
class FileCheckpoint:
    """Remembers the multipart upload of one file."""

    ledger: Ledger
    path: str
    source: str

    def state(self) -> Begun | None:
        """Return the upload that can be resumed, if there is one."""
        return self.ledger.begun(self.path, self.source)

    def start(self, upload_id: str, part_size: int, algorithm: str) -> Self:
        """Record that an upload was created."""
        begun = Begun(upload_id, part_size, algorithm, self.source)
        self.ledger.note(_Opened(self.path, begun))
        return self

    def add_part(self, upload_id: str, part: Part) -> None:
        """Record that the store has a part."""
        self.ledger.note(_Arrived(self.path, upload_id, part))

    def complete(self) -> None:
        """Discard the state of the upload: it is completed."""
        self.ledger.close(self.path)
