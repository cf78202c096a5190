"""A PostgreSQL server of the tests' own, on the loopback interface."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import free_port, missing

_TEMPORARY = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


@dataclass(frozen=True)
class PostgresServer:
    """A running server."""

    url: str
    folder: Path
    process: subprocess.Popen

    def sql(self, statement: str) -> None:
        """Run a statement as the server's owner, outside of any transaction."""
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def stop(self) -> None:
        """End the server, whoever is still connected, and remove its files."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)


def start() -> PostgresServer:
    """Start a server with an empty database; skipped or failed, by the rule, where there is none.

    PostgreSQL refuses to run as root; then it is run as `postgres` or `nobody`.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="postgres-test-"))
    user = _other_user()
    if user:
        shutil.chown(folder, user, pwd.getpwnam(user).pw_gid)
    run = ["runuser", "-u", user, "--"] if user else []
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": "/"}
    made = subprocess.run(
        [*run, programs / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "-N"],
        **quiet,
    )
    if made.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise missing(f"PostgreSQL (initdb says: {made.stderr.decode('utf-8', 'replace')[-300:]})")
    port = free_port()
    log = open(folder / "log", "wb")
    command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    # Without runuser between, so that the process is the server itself.
    identity = (
        {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    )
    with log:
        process = subprocess.Popen(
            [*command, *_TEMPORARY], stdout=log, stderr=log, cwd="/", **identity
        )
    server = PostgresServer(f"postgresql://tests@127.0.0.1:{port}/postgres", folder, process)
    _wait_for(server)
    return server


def _wait_for(server: PostgresServer) -> None:
    """Wait until the server answers."""
    import psycopg

    from tests.support import wait_until

    def answers() -> bool:
        if server.process.poll() is not None:
            log = (server.folder / "log").read_text(errors="replace")
            raise AssertionError(f"PostgreSQL ended at once: {log[-500:]}")
        try:
            server.sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    wait_until(answers, 30, "PostgreSQL to answer")


def _programs() -> Path:
    """Find the folder of PostgreSQL's programs."""
    found = shutil.which("postgres")
    if found:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not folders:
        raise missing("PostgreSQL")
    return folders[-1].parent


def _other_user() -> str:
    """Name the user to run as; empty where we are not root."""
    if os.geteuid() != 0:
        return ""
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return name
    raise missing("a user to run PostgreSQL as")
