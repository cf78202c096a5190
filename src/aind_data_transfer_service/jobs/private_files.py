"""Files and folders of the service that only its own user may read, whatever the umask is.

The database holds what users submitted, and logs of jobs may hold more than their authors meant.
Jobs on a cluster read nothing in the service's data folder.
"""

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_BESIDES = ("", "-wal", "-shm", "-journal")
"""The endings of the files of an SQLite database."""


def make_private_folder(folder: Path, shared: Iterable[Path] = ()) -> None:
    """Make a folder that only its owner can enter, or make an existing one so.

    Parameters
    ----------
    folder : Path
        The folder.
    shared : iterable of Path
        Folders that others have to enter; a warning is logged if one is inside.
    """
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close(folder, 0o700)
    for path in shared:
        if path.is_relative_to(folder):
            logger.warning(
                "%s is in DATA_DIR (%s), which only the user of the service can enter; jobs and "
                "programs of other users cannot use it there",
                path,
                folder,
            )


def make_private_file(file: Path) -> None:
    """Make an empty file for an SQLite database unless there is one; only its owner can read it.

    The files that SQLite adds later get the permissions of this one; existing ones are repaired.
    """
    if not file.parent.is_dir():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for ending in _BESIDES:
        path = file.with_name(file.name + ending)
        if path.exists():
            _close(path, 0o600)


def _close(path: Path, mode: int) -> None:
    """Take the permissions of others away, if the path is ours to decide about."""
    found = path.stat()
    if not found.st_mode & _OTHERS:
        return
    is_common = bool(found.st_mode & stat.S_ISVTX) or path == Path(path.anchor)
    if found.st_uid != os.geteuid() or is_common:
        logger.warning(
            "%s can be read by others (mode %o); allow only the user of the service",
            path,
            stat.S_IMODE(found.st_mode),
        )
        return
    path.chmod(mode)
