"""The newest Slurm that Debian's packages offer (26.05 and later), in a Debian 14 in a folder.

Made once, and retained: in SLURM_NEWEST_ROOT, else in the user's cache. Debian 14 ("forky") changes
until its release in 2027: its packages can become newer, or be left out for a while. Then those of
unstable are taken. No archive that the tests may ask has older versions, so that none is pinned.
"""

from pathlib import Path

from tests.support.debian_folder import DebianFolder, cached
from tests.support.slurm import PACKAGES


def provide() -> Path:
    """Return the folder, made if there is none; skip or fail if that cannot be done."""
    return DebianFolder(
        what="the newest Slurm",
        suite="forky",
        path=cached("slurm-forky", "SLURM_NEWEST_ROOT"),
        packages=(*PACKAGES, "slurmdbd", "slurm-wlm-mysql-plugin"),
        program="usr/sbin/slurmdbd",
        more_suites=("sid",),
    ).provide()


if __name__ == "__main__":
    provide()
