"""A Slurm cluster of the tests' own: munge, slurmctld, slurmd and slurmrestd on loopback.

Real daemons, from Debian's packages (`PACKAGES`), each in the foreground as a child of the tests,
with ports and folders of their own. Needs root, as slurmd does. Nothing is installed here.

A second generation of Slurm may lie in a folder of its own (`slurm_next`): its daemons are run
there by chroot, each with mounts that nobody else sees.
"""

import os
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support import free_port, missing, slurm_accounting, slurm_conf, slurm_root, wait_until

PACKAGES = (
    "slurmctld",
    "slurmd",
    "slurm-client",
    "slurmrestd",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-jwt-plugin",
    "munge",
)
"""What Debian calls the packages; `./run test` installs them."""

_DAEMONS = ("munged", "slurmctld", "slurmd", "slurmrestd")
_SPEAKING = "openapi/v0.0.36,openapi/v0.0.37,openapi/v0.0.38"
_SPEAKING_OF_THE_PAST = "openapi/dbv0.0.36,openapi/dbv0.0.37,openapi/dbv0.0.38"
_PARSERS = "usr/lib/*/slurm-wlm/data_parser_v*.so"
"""What of a newer Slurm speaks a version of the interface."""


class SlurmCluster:
    """A cluster of one node.

    Attributes
    ----------
    endpoint : str
        Address of slurmrestd, such as `http://127.0.0.1:40123`.
    username : str
        Whose tokens `token` makes: jobs run as this user.
    partition : str
        The name of the only partition.
    node : str
        The name of the only node.
    folder : Path
        Configuration, state and logs of all daemons.
    python : str
        This Python, for the jobs.
    """

    partition = "part"
    address = "127.0.0.1"
    """Where the nodes reach slurmctld."""
    node_daemons: Sequence[str] = ("slurmd",)

    def __init__(
        self,
        *,
        cpus: int = 8,
        memory: int = 64_000,
        min_job_age: int = 300,
        kill_wait: int = 2,
        extra: str = "",
        accounting: bool = False,
        keeps_comments: bool = True,
        limits_memory: bool = False,
        root: Path | None = None,
    ) -> None:
        """Write the configuration; `start` brings the daemons up.

        Parameters
        ----------
        cpus, memory : int
            What the node pretends to have: with one CPU, one job runs at once.
        min_job_age : int
            Seconds that an ended job is remembered, more or less: Slurm forgets once a minute.
        kill_wait : int
            Seconds between SIGTERM and SIGKILL.
        extra : str
            More lines of slurm.conf.
        accounting : bool
            Whether slurmdbd remembers jobs for good.
        keeps_comments : bool
            Whether it remembers their comments too.
        limits_memory : bool
            Whether a job that takes more memory than it asked for is killed.
        root : Path, optional
            The folder that holds another generation of Slurm, and a Debian around it.
        """
        self._root = root
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-test-"))
        self.folder.chmod(0o755)
        self.username = pwd.getpwuid(os.geteuid()).pw_name
        self.host = self.node = socket.gethostname().split(".")[0]
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._processes: dict[str, subprocess.Popen] = {}
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(mode=0o755)
        self._write_keys()
        self.accounting = None
        if accounting:
            slurm_accounting.require()
            self.accounting = slurm_accounting.Accounting(self.folder, self.host, keeps_comments)
            extra += "\n" + self.accounting.slurm_conf
        if root:
            (root / self.folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
        self.python = str(slurm_root.python_outside(self.folder)) if root else sys.executable
        if root or limits_memory:
            cgroup_conf = slurm_conf.cgroup_conf(limits_memory=limits_memory)
            (self.folder / "cgroup.conf").write_text(cgroup_conf)
        self._limits_memory = limits_memory
        self.conf = self.folder / "slurm.conf"
        self.conf.write_text(
            slurm_conf.slurm_conf(
                limits_memory=limits_memory,
                host=self.host,
                address=self.address,
                nodes=self.node_lines(cpus, memory),
                ctld_port=free_port(),
                node_port=free_port(),
                folder=self.folder,
                min_job_age=min_job_age,
                kill_wait=kill_wait,
                partition=self.partition,
                extra=extra,
            )
        )
        self.environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "SLURM_CONF": str(self.conf),
            "LANG": "C.UTF-8",
        }

    def node_lines(self, cpus: int, memory: int) -> str:
        """Describe the nodes, as slurm.conf does."""
        resources = f"CPUs={cpus} RealMemory={memory} State=UNKNOWN"
        return f"NodeName={self.host} NodeAddr={self.address} {resources}"

    def token(self, lifespan: int = 3600) -> str:
        """Make a token that lasts so many seconds."""
        said = self.run("scontrol", "token", f"username={self.username}", f"lifespan={lifespan}")
        return said.strip().removeprefix("SLURM_JWT=")

    def token_command(self, lifespan: int = 600) -> str:
        """Give the command line that makes a token."""
        command = ["scontrol", "token", f"username={self.username}", f"lifespan={lifespan}"]
        return shlex.join(self._inside(command))

    def run(self, *command: str) -> str:
        """Run one of Slurm's own commands against this cluster, and give what it says."""
        done = subprocess.run(
            self._inside(command), env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def start_daemon(self, name: str) -> None:
        """Start one daemon, and wait until it answers."""
        environment = dict(self.environment)
        command, user, answers = self._recipes()[name]
        if name == "slurmrestd":
            environment["SLURM_JWT"] = "daemon"
        with open(self.folder / f"{name}.log", "ab") as log:
            self._processes[name] = process = subprocess.Popen(
                self._inside(command, user),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"{name} ended at once: {self.log(name)[-800:]}")
            return answers()

        wait_until(ready, 90, f"{name} to answer; it says: {self.log(name)[-300:]}")

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End one daemon, abruptly unless told otherwise; the jobs of slurmd run on."""
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(how)
            process.wait(30)

    def restart(self, name: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End one daemon and start it again."""
        self.kill(name, how)
        self.start_daemon(name)

    def pid(self, name: str) -> int:
        """Return the process of a daemon."""
        return self._processes[name].pid

    def log(self, name: str) -> str:
        """Give what a daemon has said."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> "SlurmCluster":
        """Bring all daemons up, and wait for the node to be ready for jobs."""
        try:
            self.start_daemon("munged")
            if self.accounting:
                self.accounting.start()
                self.start_daemon("slurmdbd")
            for name in ("slurmctld", *self.node_daemons, "slurmrestd"):
                self.start_daemon(name)
            self.wait_for_node("idle")
            if self.accounting:
                self._add_user()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_for_node(self, state: str) -> None:
        """Wait until the node is in a state, as sinfo writes it."""
        wait_until(
            lambda: self.run("sinfo", "-h", "-o", "%T").strip() == state,
            90,
            f"a node {state}; slurmd says: {self.log(self.node_daemons[0])[-300:]}",
        )

    def drain(self) -> None:
        """Let no further job begin until the cluster is mended."""
        drained = ("state=drain", "reason=a test")
        self.run("scontrol", "update", f"nodename={self.node}", *drained)

    def mend(self) -> None:
        """Do what an administrator does after slurmctld died while it had a job started.

        When it is back, it may not know whether the node has the job: it drains the node, and holds
        the job in the queue, until somebody has looked at them.
        """
        wait_until(self._resume_node, 60, "a node that takes jobs")
        for line in self.run("squeue", "-h", "-r", "-t", "PD", "-o", "%i %r").splitlines():
            job, _, reason = line.partition(" ")
            if "held" in reason.casefold():
                self.run("scontrol", "release", job)

    def _resume_node(self) -> bool:
        """Resume the node where it is drained or down; return whether it takes jobs."""
        state = self.run("sinfo", "-h", "-o", "%T").strip()
        if not state.startswith(("drain", "down", "unk")):
            return True
        with suppress(AssertionError):  # refused between a start of slurmctld and its first look
            self.run("scontrol", "update", f"nodename={self.node}", "state=resume")
        return False

    def stop(self) -> None:
        """Cancel what runs, end the daemons, remove their files."""
        if {"slurmctld", *self.node_daemons, "munged"} <= set(self._processes):
            self._cancel_all()
        for name in ("slurmrestd", *self.node_daemons, "slurmctld", "slurmdbd", "munged"):
            self.kill(name, signal.SIGTERM if name == "munged" else signal.SIGKILL)
        if self.accounting:
            self.accounting.stop()
        if self._limits_memory:
            slurm_conf.remove_cgroups(self.host)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._root:
            (self._root / self.folder.relative_to("/")).rmdir()

    def _add_user(self) -> None:
        """Tell slurmdbd of an account, and of the user of the tests in it."""
        add = ("sacctmgr", "--immediate", "add")
        self.run(*add, "account", "tests", "Cluster=tests")
        self.run(*add, "user", self.username, "Account=tests", "Cluster=tests")

    def _cancel_all(self) -> None:
        """Leave no job's processes behind."""
        subprocess.run(
            self._inside(["scancel", "--user", self.username]),
            env=self.environment,
            capture_output=True,
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self.run("squeue", "-h", "-o", "%i").strip():
            time.sleep(0.05)

    def _write_keys(self) -> None:
        """Write munge's key and the tokens' key, each for its daemon alone."""
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        for path in (self.folder / "munge", key):
            os.chown(path, *self._ids("munge"))
        jwt = self.folder / "jwt.key"
        jwt.write_bytes(secrets.token_bytes(32))
        jwt.chmod(0o600)

    def _inside(self, command: Sequence[str], user: str = "root") -> list[str]:
        """Give the command that runs another as a user, in the folder of the generation."""
        if not self._root:
            uid, gid = self._ids(user)
            as_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
            return [*(as_user if user != "root" else []), *command]
        return slurm_root.inside(self._root, self.folder, command, user)

    def _ids(self, user: str) -> tuple[int, int]:
        """Look a user up, in the folder of the generation."""
        lines = ((self._root or Path("/")) / "etc" / "passwd").read_text().splitlines()
        for name, _, uid, gid, *_ in (line.split(":") for line in lines):
            if name == user:
                return int(uid), int(gid)
        raise missing(f"Slurm (it needs the user {user})")

    def _recipes(self) -> dict[str, tuple[list[str], str, Callable[[], bool]]]:
        """Tell how each daemon is started, as whom, and how one sees that it answers."""
        munge = self.folder / "munge"
        munge_command = [
            "/usr/sbin/munged",
            "--foreground",
            "--force",
            f"--key-file={munge}/key",
            f"--socket={munge}/socket",
            f"--pid-file={munge}/pid",
            f"--seed-file={munge}/seed",
            f"--log-file={munge}/log",
        ]
        conf = str(self.conf)
        past = bool(self.accounting)
        if self._root:
            plugins = "openapi/slurmctld" + ",openapi/slurmdbd" * past
            speaking = ["-a", "rest_auth/jwt", "-d", ",".join(spoken_in(self._root)), "-s", plugins]
        else:
            speaking = ["-s", _SPEAKING + f",{_SPEAKING_OF_THE_PAST}" * past]
        return {
            "munged": (munge_command, "munge", (munge / "socket").exists),
            "slurmdbd": (
                ["/usr/sbin/slurmdbd", "-D"],
                "root",
                lambda: _listens(self.accounting.port),
            ),
            "slurmctld": (
                ["/usr/sbin/slurmctld", "-D", "-f", conf],
                "root",
                self._controller_answers,
            ),
            "slurmd": (
                ["/usr/sbin/slurmd", "-D", "-f", conf, "-N", self.host],
                "root",
                lambda: True,
            ),
            "slurmrestd": (
                ["/usr/sbin/slurmrestd", *speaking, f"127.0.0.1:{self.port}"],
                "nobody",
                lambda: _listens(self.port),
            ),
        }

    def _controller_answers(self) -> bool:
        said = subprocess.run(
            self._inside(["scontrol", "ping"]),
            env=self.environment,
            capture_output=True,
            text=True,
        )
        return "is UP" in said.stdout


def start(kind: type[SlurmCluster] = SlurmCluster, **options) -> SlurmCluster:
    """Start a cluster; skipped or failed, by the rule, where its pieces are not to be had."""
    if os.geteuid() != 0:
        raise missing("Slurm (its daemons need root)")
    absent = [name for name in (*_DAEMONS, "scontrol", "sinfo") if not _find(name)]
    if absent and not options.get("root"):
        raise missing(f"Slurm ({', '.join(absent)}; Debian's packages {' '.join(PACKAGES)})")
    return kind(**options).start()


def spoken_in(root: Path) -> list[str]:
    """List the versions of the interface, as `v0.0.42`, that the Slurm in a folder has."""
    names = (path.stem.removeprefix("data_parser_") for path in root.glob(_PARSERS))
    return sorted(name.replace("_", ".") for name in names)


def _find(name: str) -> str | None:
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
