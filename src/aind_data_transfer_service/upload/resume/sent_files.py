"""What has arrived of a plan: for each item where the journal tells of it, and nothing more."""

import heapq
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

from msgspec.structs import replace

from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.storage.s3.parallel_list import APART
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.plan.items import Item, is_what_was_sent
from aind_data_transfer_service.upload.plan.plan import Picked, Series

_NOTHING = -1


class Arrivals(Iterable[Entry]):
    """The record of one transfer, by the items of its plan. Threads may add to it at once.

    Iterating gives every entry in the order of the paths, as often as is wanted: each is read from
    the journal when it is asked for.

    Parameters
    ----------
    items : Series
        What is to be sent.
    journal : Journal
        Where each arrival is noted.
    """

    def __init__(self, items: Series, journal: Journal):
        self._items, self._journal = items, journal
        self._offsets = array("q", (_NOTHING,)) * len(items)
        self._sizes = array("Q", (0,)) * len(items)
        self._documents: list[Entry] = []
        self._lock = threading.Lock()

    def recall(self, earlier: Iterable[Entry], wanted: bytearray | None = None) -> None:
        """Find out what is known of attempts before this one.

        Parameters
        ----------
        earlier : Iterable[Entry]
            What others tell: the manifest of an earlier upload, say. What the journal says goes
            before it, and the first word on an item before later ones.
        wanted : bytearray | None
            For each item of the plan whether it matters; without it, all do.
        """
        for offset, entry in self._journal.lines():
            self._note(entry, offset)
        for entry in earlier:
            place = self._items.find(entry.path)
            if place is None or (wanted is not None and not wanted[place]):
                continue
            if self._offsets[place] == _NOTHING:
                self.add(entry)

    def confirm(
        self, stored: Iterable[StoredObject], skip: int, documents: Iterable[str]
    ) -> tuple[bytearray, list[str]]:
        """Tell what need not be sent: recorded, unchanged since, and listed as recorded.

        Parameters
        ----------
        stored : Iterable[StoredObject]
            What the store lists of the asset.
        skip : int
            How many characters of each key come before the place in the asset.
        documents : Iterable[str]
            Places in the asset that documents will fill.

        Returns
        -------
        tuple[bytearray, list[str]]
            For each item of the plan whether it is there, and the places that nobody will fill.
        """
        there, others = bytearray(len(self._items)), []
        filled = set(documents)
        for found in stored:
            path = found.key[skip:]
            place = self._items.find(path)
            if place is not None:
                there[place] = self._is_there(place, found)
            elif path not in filled:
                others.append(path)
        return there, others

    def add(self, entry: Entry) -> None:
        """Note that an item has arrived."""
        offset = self._journal.add(entry)
        with self._lock:
            self._note(entry, offset)

    def add_all(self, entries: Sequence[Entry]) -> None:
        """Note that items have arrived."""
        offsets = self._journal.add_all(entries)
        with self._lock:
            for entry, offset in zip(entries, offsets):
                self._note(entry, offset)

    def describe(self, documents: Iterable[Entry]) -> None:
        """Note the documents that were sent."""
        self._documents = sorted(documents, key=attrgetter("path"))

    def list_as(self, entry: Entry) -> None:
        """Note an item or a document again, with the ETag by which the store lists it."""
        for place, document in enumerate(self._documents):
            if document.path == entry.path:
                self._documents[place] = entry
                return
        self.add(entry)

    def cuts(self, prefix: str) -> list[str]:
        """Give keys of the plan at which a list of the asset may be cut: none where it is short."""
        places = range(APART, len(self._items), APART)
        return sorted(f"{prefix}/{self._items[place].key}" for place in places)

    def missed(self, there: bytearray) -> bool:
        """Tell whether something is recorded that is not there."""
        return any(o != _NOTHING and not found for o, found in zip(self._offsets, there))

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        return sum(self._sizes) + sum(entry.size for entry in self._documents)

    def __iter__(self) -> Iterator[Entry]:
        parts, first = [], 0
        for part in self._items.parts:
            parts.append(self.of(range(first, first + len(part))))
            first += len(part)
        return heapq.merge(*parts, self._documents, key=attrgetter("path"))

    def of(self, places: Iterable[int]) -> Iterator[Entry]:
        """Give the entries of some items."""
        return self._journal.several(self._offsets[place] for place in places)

    def recorded(self, place: int) -> Entry | None:
        """Return what is recorded of an item, if anything is."""
        offset = self._offsets[place]
        return None if offset == _NOTHING else self._journal.at(offset)

    def __len__(self) -> int:
        return len(self._items) + len(self._documents)

    def _is_there(self, place: int, found: StoredObject) -> bool:
        """Tell whether an item is there as it was sent, and its source as it was then."""
        entry, item = self.recorded(place), self._items[place]
        if entry is None or not entry.is_stored_as(found):
            return False
        if not is_what_was_sent(item, entry.source, entry.sha256):
            return False
        if entry.source != item.version:  # the bytes were compared: the next job need not do so
            self.add(replace(entry, source=item.version, target=item.target))
        return True

    def _note(self, entry: Entry, offset: int) -> None:
        """Remember where the journal tells of an item."""
        place = self._items.find(entry.path)
        if place is not None:
            self._offsets[place], self._sizes[place] = offset, entry.size


def missing(items: Sequence[Item], there: bytearray) -> Picked:
    """Pick the items that are not there."""
    return Picked(items, array("Q", (place for place, done in enumerate(there) if not done)))
