"""What changed in a source between two scans."""

import os
from collections.abc import Iterator, Sequence

from aind_data_transfer_service.errors import SourceChangedError, SourceError
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.upload.source.file_table import Files, SourceFile
from aind_data_transfer_service.upload.source.scan import Scan


def check_still(before: Sequence[Scan], later: Sequence[Scan]) -> None:
    """Make sure that the sources are what they were when the job began.

    Parameters
    ----------
    before, later : Sequence[Scan]
        What each of them held then, and what it holds at present.

    Raises
    ------
    SourceError
        If the last look met a fault of the drive, or anything else that would have stopped the
        first look.
    SourceChangedError
        Where anything came, went or changed: the asset would be neither the one nor the other.
    """
    if problems := [problem for now in later for problem in now.problems]:
        raise SourceError(listed(problems))
    if changed := changes_between(before, later):
        raise SourceChangedError(
            f"the source changed while the job ran: {listed(changed)}; wait until nothing "
            "writes to it and submit again"
        )


def changes_between(before: Sequence[Scan], later: Sequence[Scan]) -> list[str]:
    """Return what came, went or changed in the sources."""
    changed: list[str] = []
    for found, now in zip(before, later):
        changed += _changes(found.files, now.files)
        changed += _link_changes(found, now)
    return sorted(changed)


def _changes(before: Files, after: Files) -> Iterator[str]:
    """Say which files came, went or changed."""
    if before.is_same(after):
        return
    left, right = iter(before), iter(after)
    old, new = next(left, None), next(right, None)
    while old is not None or new is not None:
        if old is not None and (new is None or _order(old) < _order(new)):
            yield f"{shown(old.path)} vanished"
            old = next(left, None)
        elif new is not None and (old is None or _order(new) < _order(old)):
            yield f"{shown(new.path)} appeared"
            new = next(right, None)
        elif old is not None and new is not None:
            if (old.size, old.mtime_ns) != (new.size, new.mtime_ns):
                yield f"{shown(old.path)} changed"
            old, new = next(left, None), next(right, None)


def _link_changes(before: Scan, after: Scan) -> Iterator[str]:
    """Say which links lead elsewhere: what they lead to may have the same sizes and times."""
    was_at, is_at = before.tree.reader.real, after.tree.reader.real
    if was_at != is_at:
        root = shown(before.tree.root)
        yield f"{root} led to {shown(was_at)} and now leads to {shown(is_at)}"
    old, new = before.tree.reader.links, after.tree.reader.links
    for name in sorted(old.keys() | new.keys()) if old != new else ():
        path, was, now = shown(f"{before.tree.root}/{name}"), old.get(name), new.get(name)
        if was is None and now is not None:
            yield f"{path} became a link to {shown(now)}"
        elif was is not None and now is None:
            yield f"{path} is no longer a link to {shown(was)}"
        elif was is not None and now is not None and was != now:
            yield f"{path} was a link to {shown(was)} and now leads to {shown(now)}"


def _order(file: SourceFile) -> bytes:
    """Tell by what files are in order."""
    return os.fsencode(file.name)
