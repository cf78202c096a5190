"""nginx and Apache, on loopback, with the configurations that the documentation quotes."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import missing, wait_until
from tests.support.https import authority

NAME = "transfer.lab.example"
"""The service's name in the documentation."""
_NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/log;
events {{}}
http {{
    access_log off;
    server_names_hash_bucket_size 128;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
    {text}
}}
"""
_MODULES = (
    *("mpm_event", "authz_core", "socache_shmcb", "ssl", "http2"),
    *("headers", "proxy", "proxy_http"),
)
_APACHE = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/apache.pid
ErrorLog {folder}/log
Mutex file:{folder}
{modules}
Listen 127.0.0.1:{port}
{user}
{text}
"""


class ReverseProxy:
    """A proxy with a configuration; a context manager.

    Parameters
    ----------
    port : int
        Where it listens, by its configuration.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.folder = Path(tempfile.mkdtemp(prefix="reverse-proxy-"))
        certificate = authority().issue_cert(NAME, "www.lab.example", "127.0.0.1")
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        (self.folder / "transfer.pem").write_bytes(chain)
        (self.folder / "transfer.key").write_bytes(certificate.private_key_pem.bytes())
        self._process: subprocess.Popen[bytes] | None = None

    def _command(self) -> list[str]:
        """Write the configuration, and return how the proxy is started with it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            with (self.folder / "output").open("wb") as output:
                self._process = subprocess.Popen(self._command(), stdout=output, stderr=output)
            wait_until(self._listens, 20, "the proxy to listen")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _listens(self) -> bool:
        """Return whether connections are taken."""
        if self._process is None or self._process.poll() is not None:
            said = "".join(
                (self.folder / name).read_text("utf-8", "replace")
                for name in ("output", "log")
                if (self.folder / name).exists()
            )
            raise AssertionError(f"the proxy ended at once: {said[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True


class Nginx(ReverseProxy):
    """nginx with the `server` blocks of a text, in which `FOLDER` stands for its own folder."""

    def __init__(self, text: str, port: int) -> None:
        super().__init__(port)
        self._text = text

    def _command(self) -> list[str]:
        program = _program("nginx")
        user = "user root root;" if os.getuid() == 0 else ""
        config = self.folder / "nginx.conf"
        text = self._text.replace("FOLDER", str(self.folder))
        config.write_text(_NGINX.format(folder=self.folder, user=user, text=text))
        return [program, "-p", str(self.folder), "-c", str(config), "-e", str(self.folder / "log")]


class Apache(ReverseProxy):
    """Apache with the virtual hosts of a text, in which `FOLDER` stands for its own folder."""

    def __init__(self, text: str, port: int) -> None:
        super().__init__(port)
        self._text = text

    def _command(self) -> list[str]:
        program = _program("apache2")
        known = Path("/usr/lib/apache2/modules")
        modules = "\n".join(f"LoadModule {name}_module {known}/mod_{name}.so" for name in _MODULES)
        user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
        config = self.folder / "apache.conf"
        config.write_text(
            _APACHE.format(
                folder=self.folder,
                modules=modules,
                port=self.port,
                user=user,
                text=self._text.replace("FOLDER", str(self.folder)),
            )
        )
        self.folder.chmod(0o755)
        return [program, "-f", str(config), "-DFOREGROUND"]


def _program(name: str) -> str:
    """Find a program, which may be where only root has its path."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not found:
        raise missing(f"{name} (apt-get install {name})")
    return found
