"""What remembers a test cluster's jobs for good: slurmdbd, on a MariaDB of the tests' own.

From Debian's packages (`PACKAGES`), in the foreground, with ports and folders of their own; the
database runs as nobody. No service of the system's is started or asked.
"""

import shutil
import subprocess
from pathlib import Path

from tests.support import free_port, missing, wait_until

PACKAGES = ("mariadb-server", "slurmdbd")
"""What Debian calls the packages; `./run test` installs them."""

_PROGRAMS = ("mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "sacctmgr")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
DebugLevel=info
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={storage_port}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""

SLURM_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/munge/socket
{flags}
"""


def require() -> None:
    """Skip or fail, by the rule, where a program is not to be had."""
    absent = [name for name in _PROGRAMS if not shutil.which(name, path=_PATH)]
    if absent:
        packages = " ".join(PACKAGES)
        raise missing(f"slurmdbd ({', '.join(absent)}; Debian's packages {packages})")


class Accounting:
    """A database, and what slurmdbd has to know of it.

    Parameters
    ----------
    folder : Path
        The cluster's folder.
    host : str
        The name of this machine.
    keeps_comments : bool
        Whether slurmctld tells slurmdbd of jobs' comments.
    """

    def __init__(self, folder: Path, host: str, keeps_comments: bool = True):
        """Write the configuration; `start` brings the database up."""
        self.port = free_port()
        self._storage_port = free_port()
        self._folder = folder / "mariadb"
        self._process: subprocess.Popen | None = None
        flags = "AccountingStoreFlags=job_comment" if keeps_comments else ""
        self.slurm_conf = SLURM_CONF.format(port=self.port, folder=folder, flags=flags)
        conf = folder / "slurmdbd.conf"
        conf.touch(0o600)
        conf.write_text(
            _SLURMDBD_CONF.format(
                folder=folder, host=host, port=self.port, storage_port=self._storage_port
            )
        )

    def start(self) -> None:
        """Make a database and bring it up."""
        self._folder.mkdir()
        shutil.chown(self._folder, "nobody")
        common = ["--no-defaults", f"--datadir={self._folder}/data"]
        made = subprocess.run(
            _as_nobody(
                "mariadb-install-db",
                *common,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ),
            cwd=self._folder,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise AssertionError(f"mariadb-install-db: {made.stdout[-400:]} {made.stderr[-400:]}")
        first = self._folder / "first.sql"
        first.write_text(
            "CREATE DATABASE slurm;"
            "\nCREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';"
            "\nGRANT ALL ON slurm.* TO slurm@'127.0.0.1';\n"
        )
        first.chmod(0o644)
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                _as_nobody(
                    "mariadbd", *common, f"--init-file={first}", f"--socket={self._folder}/socket",
                    f"--pid-file={self._folder}/pid", f"--port={self._storage_port}",
                    "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin",
                    "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M",
                    "--innodb-lock-wait-timeout=900",
                ),
                cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self._answers, 60, "MariaDB to answer")

    def stop(self) -> None:
        """End the database; nothing of it is kept."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            said = (self._folder / "log").read_text(errors="replace")
            raise AssertionError(f"mariadbd ended at once: {said[-800:]}")
        command = [
            "mariadb", "--no-defaults", "-h127.0.0.1", f"-P{self._storage_port}", "-uslurm",
            "-pslurm", "slurm", "-e", "select 1",
        ]  # fmt: skip
        return subprocess.run(command, capture_output=True).returncode == 0


def _as_nobody(*command: str) -> list[str]:
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command]
