"""Which certificates the clients of this project trust: this machine's, and those of a file."""

import os
import ssl
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import certifi

_PROTOCOLS = ["http/1.1"]


def trust(ca_file: Path | None = None) -> ssl.SSLContext:
    """Return a context for clients that trusts this machine's certificates, and those of a file.

    Clients share the one that names no file: reading the machine's certificates takes 30 ms.

    Parameters
    ----------
    ca_file : Path, optional
        A file in PEM format.

    Raises
    ------
    OSError
        If the file cannot be read or holds no certificates.
    """
    if ca_file is None:
        return _of_this_machine(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=str(ca_file))
    return context


@lru_cache(maxsize=1)
def _of_this_machine(*_: str | None) -> ssl.SSLContext:
    """Make the shared context; a new one if OpenSSL's variables name other certificates.

    A machine without any, such as a minimal container, has those of certifi.
    """
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not _has_folder():
        context.load_verify_locations(cafile=certifi.where())
    context.set_alpn_protocols(_PROTOCOLS)
    # httpcore sets them for each connection, which is not safe while another one begins.
    setattr(context, "set_alpn_protocols", _keep_protocols)
    return context


def _has_folder() -> bool:
    """Return whether OpenSSL looks certificates up in a folder, one by one when they are needed."""
    folder = ssl.get_default_verify_paths().capath
    return folder is not None and bool(os.listdir(folder))


def _keep_protocols(protocols: Iterable[str]) -> None:
    """Refuse other protocols than those of all clients."""
    if list(protocols) != _PROTOCOLS:
        raise ValueError(f"clients that share certificates speak {_PROTOCOLS[0]} alone")
