"""Which certificates the clients of this project trust: this machine's, and those of a file."""

import os
import ssl
from functools import lru_cache
from pathlib import Path


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
    """Make the shared context, anew where OpenSSL's variables name other certificates."""
    return ssl.create_default_context()
