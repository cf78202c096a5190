"""Squid, the forward proxy of many campuses, on loopback and in a folder of its own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support import free_port, missing, wait_until
from tests.support.https import authority

USER, PASSWORD = "anna", "se:cr@t"
SERVER = "s3.lab.test"
"""A name that only the proxy knows: it is 127.0.0.1."""
_LOGIN = """#!{python}
import sys, urllib.parse
for line in iter(sys.stdin.readline, ""):
    user, _, password = line.strip().partition(" ")
    known = (user, urllib.parse.unquote(password)) == ({user!r}, {password!r})
    print("OK" if known else "ERR", flush=True)
"""
_CONFIG = """
http_port 127.0.0.1:{plain}
https_port 127.0.0.1:{tls} tls-cert={folder}/proxy.pem
hosts_file {folder}/hosts
auth_param basic program {folder}/login.py
auth_param basic children 1
acl known proxy_auth REQUIRED
acl tunnel method CONNECT
acl server port {ports}
http_access deny !server
{rule}
http_access deny all
cache deny all
access_log stdio:{folder}/access.log
cache_log {folder}/cache.log
pid_filename none
shutdown_lifetime 0 seconds
coredump_dir {folder}
"""


@dataclass
class Squid:
    """A proxy that runs."""

    port: int
    tls_port: int
    folder: Path
    process: subprocess.Popen

    def requests(self) -> str:
        """Return what was asked for so far."""
        return (self.folder / "access.log").read_text()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)


def start(server_ports: list[int], login: bool = False) -> Squid:
    """Start a proxy that lets requests through to some ports, to anybody or after a login."""
    program = shutil.which("squid", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program:
        raise missing("Squid (apt-get install squid)")
    folder = Path(tempfile.mkdtemp(prefix="squid-"))
    certificate = authority().issue_cert("127.0.0.1")
    (folder / "proxy.pem").write_bytes(certificate.private_key_and_cert_chain_pem.bytes())
    (folder / "hosts").write_text(f"127.0.0.1 {SERVER}\n")
    text = _LOGIN.format(python="/usr/bin/env python3", user=USER, password=PASSWORD)
    (folder / "login.py").write_text(text)
    (folder / "login.py").chmod(0o755)
    squid = Squid(free_port(), free_port(), folder, None)  # type: ignore[arg-type]
    config = _CONFIG.format(
        plain=squid.port,
        tls=squid.tls_port,
        folder=folder,
        ports=" ".join(map(str, server_ports)),
        rule=f"http_access allow {'known' if login else 'all'}",
    )
    (folder / "squid.conf").write_text(config)
    for path in (folder, *folder.iterdir()):
        if os.getuid() == 0:  # Squid gives up its rights
            shutil.chown(path, "proxy", "proxy")
    log = open(folder / "log", "wb")
    squid.process = subprocess.Popen(
        [program, "-N", "-f", str(folder / "squid.conf")],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    log.close()
    try:
        wait_until(lambda: _listens(squid), 30, "Squid to listen")
    except BaseException:
        for name in ("log", "cache.log"):
            if (folder / name).exists():
                print((folder / name).read_text("utf-8", "replace")[-3000:], file=sys.stderr)
        squid.process.kill()
        raise
    return squid


def _listens(squid: Squid) -> bool:
    """Return whether connections are taken."""
    if squid.process.poll() is not None:
        raise AssertionError(f"Squid ended with {squid.process.returncode}")
    try:
        for port in (squid.port, squid.tls_port):
            socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
