"""The newer generation of Slurm (24.11, v0.0.40 to v0.0.42), in a Debian 13 in a folder.

Made once, by `debootstrap`, and kept: in SLURM_TEST_ROOT, else in the user's cache.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support import missing
from tests.support.slurm import PACKAGES

_SUITE = "trixie"
_PACKAGES = (*PACKAGES, "slurmdbd", "slurm-wlm-mysql-plugin")
_INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *_PACKAGES)
_LAST_SIGN = "usr/sbin/slurmdbd"
_POLICY = "#!/bin/sh\nexit 101\n"
"""No package starts a service where this is the policy."""


def provide() -> Path:
    """Give the folder, made where it is not there; skipped or failed where that cannot be done."""
    folder = _folder()
    if (folder / _LAST_SIGN).exists():
        return folder
    if os.geteuid() != 0 or not shutil.which("debootstrap", path="/usr/sbin:/sbin:/usr/bin"):
        raise missing(f"Slurm 24.11 (as root, debootstrap would make {folder})")
    if folder.exists():  # made when fewer packages were needed
        _run("chroot", str(folder), "apt-get", "update", "-qq")
        _run("chroot", str(folder), *_INSTALL)
        return folder
    making = folder.with_name(folder.name + f".{os.getpid()}")
    making.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run("debootstrap", "--variant=minbase", _SUITE, str(making))
        policy = making / "usr" / "sbin" / "policy-rc.d"
        policy.write_text(_POLICY)
        policy.chmod(0o755)
        _run("chroot", str(making), *_INSTALL)
        if not folder.exists():
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _folder() -> Path:
    named = os.environ.get("SLURM_TEST_ROOT")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "aind-data-transfer-service" / f"slurm-{_SUITE}"


def _run(*command: str) -> None:
    """Run a command; what stops it is a piece that is not to be had."""
    done = subprocess.run(
        command,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = " ".join((done.stderr or done.stdout).split())[-300:]
        raise missing(f"Slurm 24.11 ({command[0]} says: {last})")


if __name__ == "__main__":
    provide()
