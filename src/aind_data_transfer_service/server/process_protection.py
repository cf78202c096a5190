"""Keeps the secrets of this process from other processes of the same user.

Jobs on this machine run as the service's user. On Linux, such a process can read the environment,
the memory and the open files of another one in `/proc`, unless that one is marked as not dumpable.
The mark also turns off core dumps and debuggers such as py-spy (root can still use them). It ends
with `exec`, so it does not apply to the jobs that the service starts.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Collection
from pathlib import Path

from aind_data_transfer_service import redaction
from aind_data_transfer_service.settings.unknown_variables import secret_variables

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4
_ENV_START = 47
"""Index of `env_start` in `/proc/PID/stat`, counted from the state; `env_end` follows (proc(5))."""


def protect_process() -> None:
    """Close this process to others of its user, and remove secrets from its environment.

    Call it once the settings are read. What libraries read later, such as `AWS_SECRET_ACCESS_KEY`
    or a proxy with a password, stays in `os.environ`, but not in `/proc/PID/environ`.
    """
    if not sys.platform.startswith("linux"):
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        reason = os.strerror(ctypes.get_errno())
        logger.warning("jobs of this user can read the secrets of the service: %s", reason)
    settings = secret_variables()
    found = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in settings or redaction.holds_secret(value)
    }
    for name in found:
        del os.environ[name]
    _wipe([os.fsencode(name) for name in found])
    for name, value in found.items():
        if name.upper() not in settings:
            os.environ[name] = value  # in other memory


def _wipe(names: Collection[bytes]) -> None:
    """Overwrite values in the memory that `/proc/PID/environ` shows.

    The variables must have been deleted, so that nothing refers to this memory.
    """
    stat = Path("/proc/self/stat").read_text(errors="replace").rpartition(")")[2].split()
    position, end = int(stat[_ENV_START]), int(stat[_ENV_START + 1])
    for entry in ctypes.string_at(position, end - position).split(b"\0"):
        name, _, value = entry.partition(b"=")
        if value and name in names:
            ctypes.memset(position + len(name) + 1, 0, len(value))
        position += len(entry) + 1
