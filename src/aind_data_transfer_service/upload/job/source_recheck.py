"""The last look at the sources, once all is sent: whether they still hold what was sent.

Size and time of writing were compared while the files were read. What they do not show is found
here. A change time that differs from the first look makes a file doubtful, for instance after its
time of writing was set back; so does a change in the minute before the first look (`source`). The
bytes of doubtful files are read again, and have to be those that were sent.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.concurrency.transfer_budget import cores
from aind_data_transfer_service.errors import SourceChangedError
from aind_data_transfer_service.upload.plan.items import (
    FileItems,
    Item,
    StreamedItem,
    sha256_of,
)
from aind_data_transfer_service.upload.plan.plan import Series
from aind_data_transfer_service.upload.resume.sent_files import Arrivals
from aind_data_transfer_service.upload.source.file_table import Files, SourceFile, Tree, is_doubtful

_BATCH = 1000
"""How many files are queued at once; there may be a million."""


def changed_since_sent(
    items: Series, now: Mapping[Tree, Files], arrivals: Arrivals
) -> Iterator[str]:
    """Read doubtful files again, and return the keys of those that hold other bytes than were sent.

    Parameters
    ----------
    items : Series
        What was sent.
    now : Mapping[Tree, Files]
        What the sources hold, of the same names, sizes and times of writing.
    arrivals : Arrivals
        What is recorded of it.
    """
    places = _doubtful_places(items, now)
    with Pool(cores(), "sources") as pool:
        while batch := list(itertools.islice(places, _BATCH)):
            sums = [pool.submit(sha256_of, items[place]) for place in batch]
            for place, sha256 in zip(batch, sums):
                entry = arrivals.recorded(place)
                if entry is None or not _holds(sha256, entry.sha256):
                    yield items[place].key


def _holds(sha256: Future[str], sent: str) -> bool:
    """Return whether a file that was read again holds what was sent."""
    try:
        return sha256.result() == sent
    except SourceChangedError:  # changed while it was read, too
        return False


def _doubtful_places(items: Series, now: Mapping[Tree, Files]) -> Iterator[int]:
    """Return the places of doubtful items among all."""
    first = 0
    for part in items.parts:
        yield from (first + place for place in _doubtful(part, now))
        first += len(part)


def _doubtful(part: Sequence[Item], now: Mapping[Tree, Files]) -> Iterator[int]:
    """Return the places of doubtful items; an archive is doubtful if any of its files is."""
    if isinstance(part, FileItems):
        yield from part.files.doubtful(now[part.files.tree])
        return
    for place, item in enumerate(part):
        if isinstance(item, StreamedItem) and _has_doubtful(item.files, now):
            yield place


def _has_doubtful(files: Sequence[SourceFile], now: Mapping[Tree, Files]) -> bool:
    """Return whether any of some files is doubtful."""
    if isinstance(files, Files):  # all of a source: compared at once, if nothing has changed
        return any(True for _ in files.doubtful(now[files.tree]))
    return any(is_doubtful(file, now[file.tree]) for file in files)
