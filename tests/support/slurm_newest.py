"""The newest Slurm that Debian's packages offer (26.05 and later), in a Debian 14 in a folder.

Made once, and retained: in SLURM_NEWEST_ROOT, else in the user's cache. Debian 14 ("forky") changes
until its release in 2027: its packages can become newer, or be left out for a while. Then those of
unstable are taken, and if there are none either, Slurm 24.11 is the newest. Debian's mirrors have
no older versions, so that none can be pinned.
"""

import warnings
from functools import cache
from pathlib import Path

from tests.support import slurm_next
from tests.support.debian_folder import DebianFolder, NotOffered, cached
from tests.support.slurm import PACKAGES

FOLDER = DebianFolder(
    what="the newest Slurm",
    suite="forky",
    path=cached("slurm-forky", "SLURM_NEWEST_ROOT"),
    packages=(*PACKAGES, "slurmdbd", "slurm-wlm-mysql-plugin"),
    program="usr/sbin/slurmdbd",
    more_suites=("sid",),
)


@cache
def provide() -> Path:
    """Return the folder, made if there is none; skip or fail if that cannot be done."""
    try:
        return FOLDER.provide()
    except NotOffered as error:
        warnings.warn(f"{error}; tested with Slurm 24.11 instead", stacklevel=2)
        return slurm_next.provide()


if __name__ == "__main__":
    provide()
