"""Forward proxies: which one the environment names for a server, and tunnels through it.

A proxy comes from `https_proxy` or `http_proxy` (in capitals too), with user and password, with or
without a scheme; `no_proxy` names what is reached without one. Requests to an http server are sent
to the proxy as a whole; to an https server it opens a tunnel (CONNECT).
"""

import base64
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.storage.s3.retry import Fault, Kind

_PORTS = {"http": 80, "https": 443}
_HEAD_LIMIT = 1 << 16
_LOCAL = ("localhost", "127.0.0.1", "::1")
_PASSING = frozenset((408, 429, 500, 502, 503, 504))
"""What a proxy answers to CONNECT while it, or the server behind it, is down."""


@dataclass(frozen=True)
class Proxy:
    """A forward proxy."""

    host: str
    port: int
    is_encrypted: bool = False
    """Whether the proxy itself is spoken to over TLS."""
    authorization: str | None = field(default=None, repr=False)
    """The value of `Proxy-Authorization`."""

    @property
    def address(self) -> str:
        """The address for messages: it has no password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_encrypted else 'http'}://{host}:{self.port}"

    @property
    def lines(self) -> str:
        """The header lines that a request to the proxy has besides its own."""
        return f"proxy-authorization: {self.authorization}\r\n" if self.authorization else ""


def find_proxy(
    scheme: str, host: str, port: int, environment: Mapping[str, str] | None = None
) -> Proxy | None:
    """Return the proxy for a server; None if it is reached directly.

    Parameters
    ----------
    scheme, host, port : str, str, int
        The server.
    environment : Mapping of str to str
        By scheme, the address of the proxy; under `no`, what is reached without one. By default
        what the variables of this process say.

    Raises
    ------
    DestinationError
        If the variable does not name a proxy that can be used.
    """
    found = getproxies() if environment is None else environment
    address = found.get(scheme)
    if not address or host in _LOCAL or is_excluded(found.get("no", ""), host, port):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        proxy_host, proxy_port = parts.hostname, parts.port
    except ValueError:
        proxy_host = proxy_port = None
    if not proxy_host or parts.scheme not in _PORTS:
        shown = address.rpartition("@")[2]  # without a password
        raise DestinationError(
            f'{scheme}_proxy names "{shown}", which is not the address of an HTTP proxy; write one '
            "such as http://proxy.example.org:3128",
        )
    authorization = None
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
    is_encrypted = parts.scheme == "https"
    return Proxy(proxy_host, proxy_port or _PORTS[parts.scheme], is_encrypted, authorization)


def is_excluded(no_proxy: str, host: str, port: int) -> bool:
    """Return whether a server is reached without a proxy.

    Parameters
    ----------
    no_proxy : str
        Names separated by commas: `*`, a domain (with or without a dot or `*.` before it: it and
        what is under it), an IP address, a network such as `10.0.0.0/8`; each may have a port.
    host, port : str, int
        The server.
    """
    return any(_matches(name.strip().lower(), host.lower(), port) for name in no_proxy.split(","))


def _matches(name: str, host: str, port: int) -> bool:
    """Return whether one entry of `no_proxy` means a server."""
    if name == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    network = _network(name)
    if network is not None:
        return address is not None and address in network
    name, _, of_port = name.rpartition(":") if ":" in name else (name, "", "")
    if of_port and of_port != str(port):
        return False
    network = _network(name.strip("[]"))
    if network is not None:
        return address is not None and address in network
    domain = name.removeprefix("*").removeprefix(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """Read an IP address or network; None if it is neither."""
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def open_tunnel(link: socket.socket, proxy: Proxy, host: str, port: int, seconds: float) -> None:
    """Have a proxy open a tunnel to a server.

    Raises
    ------
    Fault
        If the proxy refuses, or gives no answer in time.
    """
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    request = f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{proxy.lines}\r\n"
    link.sendall(request.encode("latin-1"))
    deadline, head = time.monotonic() + seconds, b""
    while b"\r\n\r\n" not in head:
        data = link.recv(_HEAD_LIMIT)
        if not data or len(head) > _HEAD_LIMIT or time.monotonic() > deadline:
            raise Fault(Kind.PASSING, f"the proxy {proxy.address} opened no tunnel to {target}")
        head += data
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdecimal() else 0
    if not 200 <= status < 300:
        raise refusal(proxy, status, f"a tunnel to {target}")


def refusal(proxy: Proxy, status: int, what: str) -> Fault:
    """Return the fault of what a proxy itself refuses."""
    words = f"the proxy {proxy.address} refused {what} with status {status}"
    if status == 407:
        missing = "does not accept this" if proxy.authorization else "needs a"
        words += f": it {missing} user and password; write http://user:password@host:port in "
        words += "the proxy variable"
    return Fault(Kind.PASSING if status in _PASSING else Kind.FINAL, words, status)


def secured(link: socket.socket, context: ssl.SSLContext, host: str) -> "Link":
    """Shake hands with a server through a tunnel, which may be one of TLS itself."""
    if isinstance(link, ssl.SSLSocket):
        return NestedTls(link, context, host)
    return context.wrap_socket(link, server_hostname=host)


class NestedTls:
    """TLS to a server inside of TLS to a proxy; has what the wire needs of a socket.

    Python's own TLS sockets cannot be stacked.
    """

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, host: str):
        """Shake hands with the server."""
        self._outer = outer
        self._came, self._goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._came, self._goes, server_hostname=host)
        self._unsent = memoryview(b"")
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._fill()
        self._flush()

    def fileno(self) -> int:
        """Return the descriptor of the connection to the proxy."""
        return self._outer.fileno()

    def pending(self) -> int:
        """Return how many bytes that came were not read yet."""
        return self._tls.pending() + self._came.pending + self._outer.pending()

    def gettimeout(self) -> float | None:
        """Return how long one step may take."""
        return self._outer.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """Limit how long one step may take."""
        self._outer.settimeout(seconds)

    def send(self, data: memoryview | bytes) -> int:
        """Encrypt data and send them, after what an earlier call that timed out left."""
        self._flush()
        count = self._tls.write(data)
        try:
            self._flush()
        except TimeoutError:  # the data are taken; the next step goes on with them
            return count
        return count

    def recv(self, size: int) -> bytes:
        """Return data that came, decrypted; empty at the end of the connection."""
        self._flush()
        while True:
            try:
                return self._tls.read(size)
            except ssl.SSLWantReadError:
                self._fill()
            except ssl.SSLZeroReturnError:
                return b""

    def close(self) -> None:
        """Close the connection."""
        self._outer.close()

    def _fill(self) -> None:
        """Take what came."""
        data = self._outer.recv(1 << 16)
        if not data:
            raise ConnectionResetError("the connection was closed")
        self._came.write(data)

    def _flush(self) -> None:
        """Send what is encrypted."""
        while True:
            if not self._unsent:
                self._unsent = memoryview(self._goes.read())
            if not self._unsent:
                return
            self._unsent = self._unsent[self._outer.send(self._unsent) :]


Link = socket.socket | NestedTls
"""A connection."""
