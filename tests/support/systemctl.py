"""`systemctl` for a machine without systemd: starts the programs of unit files, as these say.

A program of its own, which needs Python alone: the machines of `tests.support.machines` have it.
It knows what the units of Slurm, MUNGE, MariaDB and the service use, and refuses what systemd
refuses. A unit of a Debian package is unknown until its package was installed on the machine.
"""

import grp
import os
import pwd
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

OWN = Path("/etc/systemd/system")
PACKAGED = Path("/lib/systemd/system")
STATE = Path("/run/units")
INSTALLED = Path("/run/installed-packages")
LOGS = Path("/var/log/units")
RELOADED = STATE / "reloaded"
SECONDS = 60

Unit = dict[str, list[str]]


def main() -> None:
    """Carry out a command of systemctl."""
    for folder in (STATE, LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    command, *names = [word for word in sys.argv[1:] if not word.startswith("-")]
    names = [name.removesuffix(".service") for name in names]
    if command in ("daemon-reload", "enable"):
        RELOADED.touch()
    for name in names:
        unit = load(name)
        if command in ("stop", "restart"):
            stop(name, unit)
        if command in ("start", "restart") or (command == "enable" and "--now" in sys.argv):
            start(name, unit)


def fail(message: str) -> None:
    """End with an error."""
    sys.exit(f"systemctl: {message}")


def load(name: str) -> Unit:
    """Read the files of a unit."""
    files = [folder / f"{name}.service" for folder in (OWN, PACKAGED)]
    file = next((file for file in files if file.exists()), None)
    if file is None or (file.parent == PACKAGED and not is_installed(file)):
        fail(f"Unit {name}.service not found.")
    files = [file, *sorted((OWN / f"{name}.service.d").glob("*.conf"))]
    reloaded = RELOADED.stat().st_mtime if RELOADED.exists() else 0
    for file in files:
        if file.is_relative_to(OWN) and file.stat().st_mtime > reloaded:
            fail(f"{file} has changed: run 'systemctl daemon-reload'")
    unit: Unit = {}
    for file in files:
        text = re.sub(r"\\\n", " ", file.read_text())
        for line in text.splitlines():
            key, equals, value = line.strip().partition("=")
            if not equals or key.startswith(("#", ";", "[")):
                continue
            unit[key] = [*unit.get(key, []), value] if value else []
    return unit


def is_installed(file: Path) -> bool:
    """Return whether the package of a file was installed on this machine."""
    said = subprocess.run(["dpkg-query", "--search", file], capture_output=True, text=True)
    package = said.stdout.partition(":")[0]
    return INSTALLED.exists() and package in INSTALLED.read_text().split()


def start(name: str, unit: Unit) -> None:
    """Start the program of a unit, unless it runs, and wait as long as systemd does."""
    if running(name):
        return
    for path in unit.get("ConditionPathExists", []):
        if not Path(path).exists():
            print(f"{name}: {path} does not exist, and the unit is not started", file=sys.stderr)
            return
    if len(unit.get("ExecStart", [])) != 1:
        fail(f"{name}.service has not exactly one ExecStart= setting. Refusing.")
    user = pwd.getpwnam(last(unit, "User", "root"))
    environment = environment_of(unit, user)
    make_folders(unit, user)
    kind = last(unit, "Type", "simple")
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if kind == "notify":
        path = STATE / f"{name}.notify"
        path.unlink(missing_ok=True)
        ready.bind(str(path))
        path.chmod(0o777)
        environment["NOTIFY_SOCKET"] = str(path)
    with open(LOGS / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            list(words(unit["ExecStart"][0], environment)),
            env=environment,
            cwd=last(unit, "WorkingDirectory", "/"),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=user.pw_uid,
            group=grp.getgrnam(last(unit, "Group", "")).gr_gid if "Group" in unit else user.pw_gid,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
            umask=int(last(unit, "UMask", "0022"), 8),
            start_new_session=True,
        )
    pid = str(process.pid)
    if kind == "forking":
        if process.wait(SECONDS):
            fail(f"{name}.service ended with exit code {process.returncode}")
        pid = Path(last(unit, "PIDFile", "")).read_text().strip()
    elif kind == "notify":
        ready.settimeout(SECONDS)
        while b"READY=1" not in ready.recv(4096):
            pass
    (STATE / f"{name}.pid").write_text(pid)


def stop(name: str, unit: Unit) -> None:
    """Stop the program of a unit, if it runs; its jobs run on."""
    pid = running(name)
    deadline = time.monotonic() + SECONDS / 3
    how = getattr(signal, last(unit, "KillSignal", "SIGTERM"))
    while pid and running(name):
        os.kill(pid, how)
        how = signal.SIGKILL if time.monotonic() > deadline else 0
        time.sleep(0.05)


def running(name: str) -> int:
    """Return the number of the process of a unit; 0 if it does not run."""
    file = STATE / f"{name}.pid"
    pid = file.read_text() if file.exists() else ""
    return int(pid) if pid and Path(f"/proc/{pid}").exists() else 0


def environment_of(unit: Unit, user: pwd.struct_passwd) -> dict[str, str]:
    """Return the environment of the program of a unit."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": user.pw_dir,
        "USER": user.pw_name,
    }
    for line in unit.get("Environment", []):
        environment.update(word.split("=", 1) for word in shlex.split(line))
    for name in unit.get("EnvironmentFile", []):
        file = Path(name.removeprefix("-"))
        if name.startswith("-") and not file.exists():
            continue
        for line in file.read_text().splitlines():
            key, equals, value = line.strip().partition("=")
            if equals and not key.startswith(("#", ";")):
                environment[key] = value
    return environment


def make_folders(unit: Unit, user: pwd.struct_passwd) -> None:
    """Make the folders that a unit names."""
    for kind, parent in (("Runtime", "/run"), ("State", "/var/lib")):
        for name in unit.get(f"{kind}Directory", []):
            folder = Path(parent) / name
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, user.pw_uid, user.pw_gid)
            folder.chmod(int(last(unit, f"{kind}DirectoryMode", "0755"), 8))


def words(command: str, environment: dict[str, str]) -> list[str]:
    """Return the words of a command line; a variable that is a word stands for its words."""
    found = []
    for word in shlex.split(command):
        if re.fullmatch(r"\$\w+", word):
            found += environment.get(word[1:], "").split()
        else:
            found.append(word)
    return found


def last(unit: Unit, key: str, default: str) -> str:
    """Return the value of a key that counts once."""
    return ([default] + unit.get(key, []))[-1]


if __name__ == "__main__":
    main()
