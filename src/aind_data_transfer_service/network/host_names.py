"""Parse and compare host names as HTTP headers, browsers and administrators write them."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import idna

DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST = 320
"""Characters of a host with its port. DNS allows 253 for the name."""
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PORT = re.compile(r"[0-9]{1,5}")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)(?:%(?:25)?[A-Za-z0-9._~-]+)?\](?::(.*))?")
_ORIGIN = re.compile(r"(https?)://([^/?#@\s]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Authority:
    """A host and a port, in the form in which they can be compared."""

    host: str
    """A name in lower case without a trailing dot, or an IP address without brackets and zone."""
    port: int | None = None
    """None if none is named, or the default port of http or https."""

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address."""
        return _address(self.host) is not None


def parse_authority(text: str) -> Authority | None:
    """Parse the value of a `Host` header; return None if it is malformed.

    Examples
    --------
    >>> parse_authority("Transfer.LAB.:80")
    Authority(host='transfer.lab', port=None)
    >>> parse_authority("[::1%25eth0]:5000")
    Authority(host='::1', port=5000)
    """
    return _parse(text) if len(text) <= LONGEST else None


@lru_cache(maxsize=256)
def _parse(text: str) -> Authority | None:
    if bracketed := _BRACKETED.fullmatch(text):
        host, port_text = _address(bracketed[1]) or "", bracketed[2] or ""
        if ":" not in host:
            return None
    else:
        name, _, port_text = text.partition(":")
        host = _address(name.removesuffix(".")) or _name(name)
    if not host or port_text and not _PORT.fullmatch(port_text):
        return None
    port = int(port_text) if port_text else None
    if port is not None and not 0 < port < 65536:
        return None
    return Authority(host, None if port in DEFAULT_PORTS.values() else port)


def parse_origin(text: str) -> Authority | None:
    """Parse the value of an `Origin` header; return None for `null` and anything but http(s)."""
    match = _ORIGIN.fullmatch(text)
    return parse_authority(match[2]) if match else None


def parse_pattern(text: str) -> str:
    """Return a host name, an IP address or a pattern such as `*.lab.example` in comparable form.

    Raises
    ------
    ValueError
        If it is none of them, for example because it has a scheme or a port.
    """
    stem = text.strip()
    star = "*." if stem.startswith("*.") else ""
    stem = stem.removeprefix("*.")
    host = _address(stem.strip("[]")) or _name(stem) or _unicode_name(stem)
    if not host or star and _address(host):
        raise ValueError(
            f'"{text}" is not a host name; write the name alone, without scheme and port, such as '
            "transfer.lab.example, or a pattern such as *.lab.example"
        )
    return star + host


def matches(host: str, patterns: Iterable[str]) -> bool:
    """Return whether a host is one of the names, or matches one of the patterns.

    Examples
    --------
    >>> matches("a.lab.example", {"*.lab.example"}), matches("lab.example", {"*.lab.example"})
    (True, False)
    """
    return any(
        host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
        for pattern in patterns
    )


def _address(text: str) -> str | None:
    """Return an IP address in its shortest form; None if the text is none."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


def _name(text: str) -> str:
    """Return an ASCII host name in lower case without its trailing dot; empty if malformed."""
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    is_right = len(name) <= 253 and all(map(_LABEL.fullmatch, labels))
    return name if is_right and name.isascii() else ""


def _unicode_name(text: str) -> str:
    """Return the ASCII form of an internationalised name, as browsers send it."""
    try:
        return _name(idna.encode(text, uts46=True).decode("ascii"))
    except idna.IDNAError:
        return ""
