"""The names of reasons that the installed Slurm libraries know."""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

from aind_data_transfer_service.executors.slurm.state_reasons import UNKNOWN, waiting_reason
from tests.support import missing, slurm_newest, slurm_next

_LIBRARY = Path("usr/lib/x86_64-linux-gnu/slurm-wlm/libslurmfull.so")
_NO_REASON = {"InvaildReason", "InvalidReason"}
_NAMES = """
import ctypes, json, sys
library = ctypes.CDLL(sys.argv[1])
get = getattr(library, "job_state_reason_string", None) or library.job_reason_string
get.restype = ctypes.c_char_p
print(json.dumps([get(number).decode() for number in range(1000)]))
"""


class Installed(unittest.TestCase):
    """Each reason of an installed version has a message."""

    def check(self, library: Path, *loader: str) -> None:
        """Ask a library for the names of all reasons, and look each up."""
        if not library.exists():
            raise missing(str(library))
        python = os.path.realpath(sys.executable)
        command = [*loader, python, "-I", "-c", _NAMES, str(library)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        # beyond the last reason, the number itself or a word of Slurm's is returned
        names = {name for name in json.loads(done.stdout) if not name.isdigit()} - _NO_REASON
        self.assertGreater(len(names), 190)
        for name in names:
            with self.subTest(name):
                self.assertNotIn(UNKNOWN, waiting_reason(name))

    def test_of_this_machine(self) -> None:
        self.check(Path("/") / _LIBRARY)

    def test_of_the_newer_generations(self) -> None:
        for root in (slurm_next.provide(), slurm_newest.provide()):
            with self.subTest(root.name):
                self.check_in(root)

    def check_in(self, root: Path) -> None:
        """Ask the library of a Debian in a folder, with the loader of that Debian."""
        library = root / _LIBRARY
        folders = (library.parent, library.parents[1], Path("/") / _LIBRARY.parents[1])
        loader = str(root / "usr/lib64/ld-linux-x86-64.so.2")
        self.check(library, loader, "--library-path", ":".join(map(str, folders)))
