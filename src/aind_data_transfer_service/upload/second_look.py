"""The last look at the sources, once all is sent: whether they still hold what was sent.

Size and time of writing were compared while the files were read. What they do not show is found
here: a change time that differs from the first look makes a file doubtful, for instance after its
time of writing was set back. So does a change shortly before the job began: programs that write by
mmap change a page that the system has not written to the drive yet without any time changing. The
bytes of doubtful files are read again, and have to be those that were sent.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from aind_data_transfer_service.upload.arrivals import Arrivals
from aind_data_transfer_service.upload.files import Files, Tree
from aind_data_transfer_service.upload.plan import Series
from aind_data_transfer_service.upload.transforms import FileItems, Item, ZipItem, sha256_of

UNSETTLED = timedelta(seconds=60)
"""How long before the job a change makes a file doubtful: Linux writes changed pages to the drive
after 35 seconds by default, and notices writing by mmap again from then on."""


def changed_since_sent(
    items: Series, now: Mapping[Tree, Files], arrivals: Arrivals, started: datetime
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
    started : datetime
        When the first attempt to send it began.

    Raises
    ------
    SourceChangedError
        If a file changes while it is read.
    """
    since_ns = int((started - UNSETTLED).timestamp()) * 1_000_000_000
    first = 0
    for part in items.parts:
        for place in _doubtful(part, now, since_ns):
            item, entry = part[place], arrivals.recorded(first + place)
            if entry is None or entry.sha256 != sha256_of(item):
                yield item.key
        first += len(part)


def _doubtful(part: Sequence[Item], now: Mapping[Tree, Files], since_ns: int) -> Iterator[int]:
    """Return the places of doubtful items; an archive is doubtful if any of its files is."""
    if isinstance(part, FileItems):
        files = part.files
        yield from files.doubtful(now[files.tree], since_ns)
        return
    for place, item in enumerate(part):
        if isinstance(item, ZipItem):
            pairs = zip(item.files, now[item.files[0].tree])
            if any(a.ctime_ns != b.ctime_ns or b.ctime_ns >= since_ns for a, b in pairs):
                yield place
