"""A Debian of another release in a folder, for the programs that the tests take from it.

Made once, by `debootstrap`, and retained: in the user's cache, unless a variable names the folder.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import missing

_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_APT = (
    *("apt-get", "-qq", "-o", "Acquire::Retries=3", "-o", "Acquire::Languages=none"),
    *("-o", "Acquire::Check-Valid-Until=false"),  # a mirror may lag
    *("-o", "APT::Update::Error-Mode=any"),  # without a list, nothing is known of what is offered
)
_QUICKLY = "-oDpkg::Options::=--force-unsafe-io"
_POLICY = "#!/bin/sh\nexit 101\n"
"""No package starts a service where this is the policy."""
_SECONDS = 600
"""After which a step is given up: debootstrap takes about 40 s, the packages as long."""


class NotOffered(Exception):
    """No release that is named has packages that can be installed together."""


@dataclass(frozen=True)
class DebianFolder:
    """A Debian in a folder.

    Parameters
    ----------
    what : str
        What the tests need it for, as a message names it.
    suite : str
        Debian's name of the release.
    path : Path
        Where the folder is, or is going to be.
    packages : sequence of str
        What is installed in it.
    program : str
        The path in it of a program of the last of these packages.
    more_suites : sequence of str
        Releases from which packages are taken that the first one does not offer.
    """

    what: str
    suite: str
    path: Path
    packages: Sequence[str]
    program: str
    more_suites: Sequence[str] = ()

    def provide(self) -> Path:
        """Return the folder, made if there is none; skip or fail if that cannot be done.

        Raises
        ------
        NotOffered
            If Debian does not have the packages now.
        """
        if (self.path / self.program).exists():
            return self.path
        if os.geteuid() != 0 or not shutil.which("debootstrap", path=_PATH):
            raise missing(f"{self.what} (as root, debootstrap would make {self.path})")
        if self.path.exists():  # made when fewer packages were needed
            self._install(self.path)
            return self.path
        making = self.path.with_name(self.path.name + f".{os.getpid()}")
        making.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._make(making)
            self._install(making)
            if not self.path.exists():
                making.rename(self.path)
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return self.path

    def _make(self, folder: Path) -> None:
        """Make a smallest Debian; a release that debootstrap does not know is made as unstable."""
        known = () if (_SCRIPTS / self.suite).exists() else ("", "sid")
        self._run("debootstrap", "--variant=minbase", self.suite, str(folder), *known)
        policy = folder / "usr" / "sbin" / "policy-rc.d"
        policy.write_text(_POLICY)
        policy.chmod(0o755)

    def _install(self, folder: Path) -> None:
        """Install the packages, with those of later releases that the first does not offer."""
        sources = folder / "etc" / "apt" / "sources.list"
        for suite in ("", *self.more_suites):
            if suite:
                with sources.open("a") as file:
                    file.write(
                        sources.read_text().splitlines()[0].replace(self.suite, suite) + "\n"
                    )
            self._inside(folder, "update")
            if self._is_offered(folder):
                break
        else:
            raise NotOffered(f"{self.what}: {self.suite} does not offer {' '.join(self.packages)}")
        self._inside(folder, _QUICKLY, "install", "-y", "--no-install-recommends", *self.packages)

    def _is_offered(self, folder: Path) -> bool:
        """Return whether all packages can be installed from the releases that are named."""
        command = ("chroot", str(folder), *_APT, "install", "--simulate", *self.packages)
        return not _run(command).returncode

    def _inside(self, folder: Path, *arguments: str) -> None:
        """Run apt-get in the folder."""
        self._run("chroot", str(folder), *_APT, *arguments)

    def _run(self, *command: str) -> None:
        """Run a command; if it fails or hangs, this piece is missing."""
        try:
            done = _run(command)
        except subprocess.TimeoutExpired as error:
            raise missing(f"{self.what} ({command[0]} took over {_SECONDS} s)") from error
        if done.returncode:
            last = " ".join((done.stderr or done.stdout).split())[-300:]
            raise missing(f"{self.what} ({command[0]} says: {last})")


def cached(name: str, variable: str) -> Path:
    """Return the folder that a variable of the environment names, else one in the user's cache."""
    named = os.environ.get(variable)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "aind-data-transfer-service" / name


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        env={"PATH": _PATH, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
