"""The newer generation of Slurm (24.11, v0.0.40 to v0.0.42), in a Debian 13 in a folder.

Made once, and kept: in SLURM_TEST_ROOT, else in the user's cache.
"""

from pathlib import Path

from tests.support.debian_folder import DebianFolder, cached
from tests.support.slurm import PACKAGES


def provide() -> Path:
    """Give the folder, made where it is not there; skipped or failed where that cannot be done."""
    return DebianFolder(
        what="Slurm 24.11",
        suite="trixie",
        path=cached("slurm-trixie", "SLURM_TEST_ROOT"),
        packages=(*PACKAGES, "slurmdbd", "slurm-wlm-mysql-plugin"),
        program="usr/sbin/slurmdbd",
    ).provide()


if __name__ == "__main__":
    provide()
