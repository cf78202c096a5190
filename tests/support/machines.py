"""Machines of a laboratory on one machine: Linux namespaces, as containers have, without a daemon.

Each machine has its own name, network, processes, users, `/etc`, `/var` and `/run`; the programs in
`/usr` are this machine's. One network connects them, and nothing else: there is no way out.
`/shared` is the same folder on all. Root on one machine reaches root on the others with `ssh`.
Needs root.

What a real machine has and these do not is stood in for by programs in `/opt/lab/bin`: `systemctl`
starts what unit files say; `apt-get` looks whether packages of these names are installed outside,
and makes the folders, keys and databases that their installation makes; `python3` adds to each
virtual environment the packages that `pip` would download.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import psutil

from tests.support import missing, seaweedfs

PROGRAMS = ("dpkg-query", "nsenter", "ip", "ssh", "ssh-keygen", "dropbear", "curl")
STORE_PORT = 8333
_NETWORK = "10.99.0."
_HUB = "store"
_TOOLS = "/opt/lab/bin"
_PACKAGES = "/opt/lab/packages"
_PATH = f"{_TOOLS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_BOOT = """\
root=$1 lab=$2 python=$3 packages=$4 name=$5
mount -t tmpfs -o mode=755 "$name" "$root"
cd "$root"
mkdir -p dev proc sys usr run/sshd tmp home root shared old var/lib/dpkg var/log \\
    var/tmp opt/lab/packages ".$python"
chmod 1777 tmp var/tmp
ln -s /run var/run
for folder in bin sbin lib lib32 lib64 libx32; do
    [ ! -e "/$folder" ] || cp -P "/$folder" .
done
mount --rbind /usr usr
mount -o remount,bind,ro usr
mount --rbind /dev dev
mount --rbind /sys sys
mount -t proc proc proc
mount --bind "$lab/shared" shared
mount --bind "$packages" opt/lab/packages
for folder in "$python" /var/lib/dpkg; do
    mount --bind "$folder" ".$folder"
    mount -o remount,bind,ro ".$folder"
done
cp -a /etc .
rm -rf etc/slurm/*.conf etc/munge/munge.key etc/cron.* etc/resolv.conf
cp -a "$lab/bin" opt/lab/
cp -a "$lab/ssh" root/.ssh
cp "$lab/hosts" etc/hosts
mkdir -p etc/dropbear
hostname "$name"
pivot_root . old
umount -l /old
rmdir /old
echo up
exec bash -c 'sleep infinity & wait'
"""

_APT_GET = """\
#!/bin/sh
set -e
[ "$1" = install ] && shift
for package in "$@"; do
    [ "$package" = cron ] || dpkg-query --show "$package" >/dev/null
    echo "$package" >>/run/installed-packages
    case $package in
        cron)
            install -d /etc/cron.hourly
            ;;
        munge)
            install -d -o munge -g munge -m 700 /etc/munge /var/log/munge
            install -d -o munge -g munge -m 711 /var/lib/munge
            [ -e /etc/munge/munge.key ] || su munge -s /bin/sh -c 'mungekey -c'
            ;;
        slurmctld | slurmd)
            install -d -o slurm -g slurm /var/log/slurm /var/lib/slurm "/var/lib/slurm/$package"
            ;;
        mariadb-server)
            install -d -o mysql -g mysql -m 755 /var/lib/mysql
            install -d -o mysql -g mysql /run/mysqld
            mariadb-install-db --user=mysql --skip-test-db >/dev/null
            systemctl start mariadb
            ;;
    esac
done
"""

_PYTHON = """\
#!/bin/sh
set -e
[ "$1 $2" = '-m venv' ] || exec {python} "$@"
{python} -m venv --without-pip "$3"
echo {packages} >"$(echo "$3"/lib/python3.*/site-packages)/lab.pth"
for program in pip uvicorn; do
    sed "1s|.*|#!$3/bin/python|" "{tools}/$program.original" >"$3/bin/$program"
    chmod 755 "$3/bin/$program"
done
"""


class Failed(AssertionError):
    """A command failed on a machine."""


class Machine:
    """One of the machines.

    Parameters
    ----------
    name, address : str
        How the others find it.
    process : subprocess.Popen
        The process outside that ends with the machine.
    """

    def __init__(self, name: str, address: str, process: subprocess.Popen):
        self.name, self.address = name, address
        self._process = process
        self._pid = 0

    def boot(self) -> None:
        """Wait until the machine has its files."""
        if self._process.stdout.readline() != "up\n":
            raise AssertionError(f"{self.name} did not start: {self._process.stderr.read()}")
        self._pid = psutil.Process(self._process.pid).children()[0].pid

    def connect(self, hub: "Machine", number: int) -> None:
        """Give the machine its address, and connect it to the network of another."""
        self.run_in_network("ip", "link", "set", "lo", "up")
        interface = "bridge"
        if hub is self:
            self.run_in_network("ip", "link", "add", "bridge", "type", "bridge")
        else:
            interface, port, process = "eth0", f"port{number}", str(self._pid)
            peer = ("peer", "name", interface, "netns", process)
            hub.run_in_network("ip", "link", "add", port, "type", "veth", *peer)
            hub.run_in_network("ip", "link", "set", port, "master", "bridge", "up")
        self.run_in_network("ip", "address", "add", f"{self.address}/24", "dev", interface)
        self.run_in_network("ip", "link", "set", interface, "up")

    def run_in_network(self, *command: str) -> None:
        """Run a program of this machine's outside, in the network of the machine."""
        done = subprocess.run(self.in_network(*command), capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"{self.name}: {' '.join(command)}: {done.stderr}")

    def in_network(self, *command: str) -> list[str]:
        """Return the command that runs another in the network of the machine alone."""
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net", *command]

    def run(
        self, script: str, *, folder: str = "/root", user: str = "root", seconds: float = 120
    ) -> str:
        """Run commands of bash, and return what they print.

        Raises
        ------
        Failed
            If one of them fails.
        """
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
        variables = (f"PATH={_PATH}", f"HOME={'/root' if user == 'root' else '/'}", "LANG=C.UTF-8")
        as_user = () if user == "root" else ("runuser", f"--user={user}", "--")
        # Into files, because what a command leaves running would keep a pipe open.
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            done = subprocess.run(
                [
                    *("nsenter", f"--target={self._pid}", *namespaces, "env", "-i", *variables),
                    *("timeout", "--kill-after=5", str(seconds), *as_user),
                    *("bash", "-euo", "pipefail", "-c", f"cd {folder}\n{script}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
            output.seek(0)
            errors.seek(0)
            if done.returncode:
                said = (output.read() + errors.read()).strip()
                raise Failed(f"{self.name}: exit code {done.returncode}: {said}")
            return output.read()

    def write(self, path: str, text: str, *, append: bool = False) -> None:
        """Write a file, or add to one, as an editor does: its owner and mode stay."""
        end = "the end of the file that the page shows"
        self.run(f"cat {'>>' if append else '>'} {path} <<'{end}'\n{text}{end}")

    def logs(self) -> str:
        """Return the last lines that the programs of units have printed."""
        return self.run("tail -n 8 /var/log/units/*.log /var/log/slurm/*.log 2>&1 || true")

    def stop(self) -> None:
        """End all processes of the machine; its files are gone then."""
        self._process.kill()
        self._process.communicate()


class Lab:
    """The machines, and a store for S3 on a machine of its own.

    Parameters
    ----------
    *names : str
        The names of the machines.
    """

    def __init__(self, *names: str):
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        self.machines: dict[str, Machine] = {}
        self._names = (_HUB, *names)
        self._weed: subprocess.Popen | None = None

    def start(self) -> "Lab":
        """Start the machines, their network and the servers for `ssh`."""
        try:
            self._write_files()
            for number, name in enumerate(self._names, 1):
                self.machines[name] = Machine(name, f"{_NETWORK}{number}", self._boot(name))
            for number, machine in enumerate(self.machines.values()):
                machine.boot()
                machine.connect(self.machines[_HUB], number)
                machine.run("dropbear -R -E >/var/log/ssh.log 2>&1")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End everything."""
        if self._weed is not None:
            self._weed.kill()
            self._weed.wait()
        for machine in self.machines.values():
            machine.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def make_bucket(self, name: str) -> None:
        """Make a bucket of the store, which is started if it does not run."""
        if self._weed is None:
            self._start_store()
        key = f"{seaweedfs.ACCESS_KEY}:{seaweedfs.SECRET_KEY}"
        address = f"http://{_HUB}:{STORE_PORT}/{name}"
        signed = f"curl --fail --silent --show-error --aws-sigv4 aws:amz:us-east-1:s3 --user {key}"
        self.machines[_HUB].run(
            f"{signed} --retry 120 --retry-all-errors --retry-delay 1 -X PUT {address}"
        )

    def logs(self) -> str:
        """Return the last lines of all logs."""
        machines = list(self.machines.values())
        return "\n".join(f"== {machine.name}\n{machine.logs()}" for machine in machines)

    def _boot(self, name: str) -> subprocess.Popen:
        """Start the process of a machine."""
        root = self.folder / "machines" / name
        root.mkdir(parents=True)
        places = (root, self.folder, sys.base_prefix, sysconfig.get_path("purelib"), name)
        return subprocess.Popen(
            [
                *("setpriv", "--pdeathsig=KILL"),
                *("unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork"),
                *("--kill-child", "--propagation=private"),
                *("sh", "-euc", _BOOT, "boot", *map(str, places)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def _write_files(self) -> None:
        """Write what all machines have in common."""
        (self.folder / "shared").mkdir(mode=0o755)
        tools = self.folder / "bin"
        tools.mkdir(mode=0o755)
        python = Path(sys.base_prefix) / "bin" / f"python{sysconfig.get_python_version()}"
        source = Path(__file__).with_name("systemctl.py").read_text("utf-8")
        programs = {
            "apt-get": _APT_GET,
            "python3": _PYTHON.format(python=python, packages=_PACKAGES, tools=_TOOLS),
            "systemctl": f"#!{python}\n{source}",
        }
        for name in ("pip", "uvicorn"):
            script = Path(sysconfig.get_path("scripts"), name)
            programs[f"{name}.original"] = script.read_text("utf-8")
        for name, text in programs.items():
            (tools / name).write_text(text, "utf-8")
            (tools / name).chmod(0o755)
        hosts = [f"{_NETWORK}{number} {name}\n" for number, name in enumerate(self._names, 1)]
        (self.folder / "hosts").write_text("127.0.0.1 localhost\n" + "".join(hosts))
        ssh = self.folder / "ssh"
        ssh.mkdir(mode=0o700)
        key = ssh / "id_ed25519"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
        (ssh / "config").write_text("StrictHostKeyChecking no\nLogLevel ERROR\n")

    def _start_store(self) -> None:
        """Start SeaweedFS in the network of its machine."""
        folder = self.folder / "store"
        folder.mkdir()
        address = self.machines[_HUB].address
        key = {"accessKey": seaweedfs.ACCESS_KEY, "secretKey": seaweedfs.SECRET_KEY}
        user = {"name": "svc", "credentials": [key], "actions": ["Admin"]}
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [user]}))
        command = [
            *(seaweedfs.program(), "server", f"-dir={folder}", f"-ip={address}"),
            *(f"-ip.bind={address}", "-master.telemetry=false", "-master.volumeSizeLimitMB=64"),
            *("-volume.max=0", "-filer", "-s3", f"-s3.config={config}", f"-s3.port={STORE_PORT}"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        ]
        with open(folder / "log", "wb") as log:
            self._weed = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", *self.machines[_HUB].in_network(*command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def start(*names: str) -> Lab:
    """Start a lab; skipped or failed, by the rule, if it cannot be had here."""
    if os.geteuid() != 0:
        raise missing("a lab of machines (namespaces need root)")
    path = f"{os.defpath}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if not shutil.which(name, path=path)]
    if absent:
        raise missing(f"a lab of machines ({', '.join(absent)})")
    try_namespaces = ["unshare", "--mount", "--net", "--pid", "--fork", "mount", "-t", "tmpfs"]
    tried = subprocess.run([*try_namespaces, "lab", "/mnt"], capture_output=True, text=True)
    if tried.returncode:
        raise missing(
            f"a lab of machines (it needs a privileged container: {tried.stderr.strip()})"
        )
    return Lab(*names).start()
