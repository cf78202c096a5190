"""Whether sources exist and can be read, before anything is scanned."""

import os
import stat
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath

from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.source_paths.drive_retry import Drive, reason
from aind_data_transfer_service.source_paths.roots import READ_ONLY, SourceRoots
from aind_data_transfer_service.source_paths.similar import similar_hint

EFFECTIVE_IDS = os.access in os.supports_effective_ids
_MISSING = "does not exist"


def check_sources(
    sources: list[tuple[str, PurePosixPath]],
    drive: Drive | None = None,
    roots: SourceRoots | None = None,
    others: Sequence[tuple[str, str]] = (),
) -> None:
    """Make sure that every source may be uploaded, is there and can be read.

    Parameters
    ----------
    sources : list[tuple[str, PurePosixPath]]
        What each is of, for people, and where it is.
    drive : Drive | None
        Retries what fails.
    roots : SourceRoots | None
        The folders that may be uploaded; by default all but private ones.
    others : Sequence[tuple[str, str]]
        What else the request names: it may be missing, but must be in these folders.

    Raises
    ------
    SourceError
        Where any is not, naming all of those.
    """
    problems, drive, roots = [], drive or Drive(), roots or SourceRoots()
    for label, path in sources:
        if refused := roots.problem(str(path)):
            problems.append(f"{label}: {refused}")
        elif problem := _root_problem(str(path), drive):
            if problem == _MISSING:
                problem += similar_hint(str(path), lambda similar: not roots.problem(similar))
            problems.append(f"{label}: {shown(str(path))} {problem}")
    for label, other in others:
        if refused := roots.problem(other):
            problems.append(f"{label}: {refused}")
    if problems:
        raise SourceError(listed(problems))


def _root_problem(path: str, drive: Drive) -> str | None:
    """Tell what is wrong with a source itself."""
    try:
        status = drive.run(shown(path), lambda: os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return _MISSING
    except OSError as error:
        return f"cannot be read: {reason(error)}"
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        return "is neither a folder nor a file"
    is_folder = stat.S_ISDIR(status.st_mode)
    needed = os.R_OK | (os.X_OK if is_folder else 0)
    if os.access(path, needed, effective_ids=EFFECTIVE_IDS):
        return None
    try:
        drive.run(shown(path), partial(_open_once, f"{path}/." if is_folder else path))
    except PermissionError:
        return "may not be read"
    except OSError as error:
        return f"cannot be read: {reason(error)}"
    return None


def _open_once(path: str) -> None:
    """Open a file or a folder for reading, and close it."""
    os.close(os.open(path, READ_ONLY))
