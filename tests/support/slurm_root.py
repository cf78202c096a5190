"""Into the folder that holds another generation of Slurm and a Debian around it, and out again."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def inside(root: Path, shared: Path, command: Sequence[str], user: str = "root") -> list[str]:
    """Give the command that runs another in the folder, with mounts that nobody else sees.

    The last of the chain replaces the ones before it: the process started is the command's own.

    Parameters
    ----------
    root : Path
        The folder.
    shared : Path
        A folder that is to be seen at the same place inside.
    command : sequence of str
        What is run.
    user : str
        Whose name in the folder it runs in.
    """
    there, here = shlex.quote(str(root)), shlex.quote(str(shared))
    script = (
        f"mount --rbind /dev {there}/dev && mount --rbind /sys {there}/sys"
        f" && mount --bind /proc {there}/proc"
        f" && touch {there}/etc/hosts && mount --bind /etc/hosts {there}/etc/hosts"
        f" && mount --bind {here} {there}{here}"
        f' && exec chroot --userspec={user}: {there} "$@"'
    )
    unshared = ["unshare", "--mount", "--propagation", "private"]
    return [*unshared, "sh", "-ec", script, "-", *command]


def python_outside(folder: Path) -> Path:
    """Write a program that is this Python to whoever starts it from inside: it steps out first."""
    path = folder / "python"
    outside = shlex.join(["nsenter", f"--target={os.getpid()}", "--mount", "--root"])
    path.write_text(f'#!/bin/sh\nexec {outside} --wd="$PWD" {shlex.quote(sys.executable)} "$@"\n')
    path.chmod(0o755)
    return path
