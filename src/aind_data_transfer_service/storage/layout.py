"""Keys of an asset and of what is recorded about it.

Keys are used unchanged. A name that a store would change is refused: control characters, the two
characters that XML cannot hold, empty or dotted parts, backslashes. See `key_problem`.
"""

import os
import re
import uuid
from collections.abc import Mapping
from typing import Any

RECORDS = ".transfer"
"""The folder of a bucket that holds what is known of its assets."""
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\\ufffe\uffff]")
_PROCESS = uuid.uuid4().hex[:16]
"""Begins the names of this process's probes."""


def record_folder(prefix: str) -> str:
    """Tell where the records of an asset lie."""
    return f"{RECORDS}/{prefix}"


def mark_key(prefix: str) -> str:
    """Tell the key of the mark of an unfinished transfer."""
    return f"{record_folder(prefix)}/in-progress.json"


def manifest_key(prefix: str) -> str:
    """Tell the key of the manifest of a verified asset."""
    return f"{record_folder(prefix)}/manifest.jsonl"


def former_manifest_key(prefix: str) -> str:
    """Return the key of the copy of a manifest that is being replaced; empty if there was none.

    As long as it is there, what is at `manifest_key` may be damaged: see `write_manifest`.
    """
    return f"{record_folder(prefix)}/manifest-before.jsonl"


def probe_key(prefix: str) -> str:
    """Return a new key for an object that is written for a moment, to try the store."""
    return f"{_probes(prefix)}{_PROCESS}{uuid.uuid4().hex}"


def is_probe(prefix: str, key: str) -> bool:
    """Return whether a record of an asset is a probe."""
    return key.startswith(_probes(prefix))


def is_own_probe(prefix: str, key: str) -> bool:
    """Return whether a record of an asset is a probe that this process wrote."""
    return key.startswith(f"{_probes(prefix)}{_PROCESS}")


def _probes(prefix: str) -> str:
    """Return how the keys of an asset's probes begin."""
    return f"{record_folder(prefix)}/probe-"


def _renew_process() -> None:
    """Take another name after a fork: the child is another process."""
    global _PROCESS
    _PROCESS = uuid.uuid4().hex[:16]


os.register_at_fork(after_in_child=_renew_process)


def fence_of(record: Mapping[str, Any]) -> int:
    """Return the fencing number of a lease or manifest header; 0 if it has none."""
    fence = record.get("fence")
    return fence if isinstance(fence, int) and fence > 0 else 0


def key_problem(key: str, limit: int) -> str | None:
    """Tell, in words, why a key cannot be used as it is; None where it can.

    Parameters
    ----------
    key : str
        The whole key, the asset's prefix included.
    limit : int
        How many bytes a key may have at this store.
    """
    try:
        length = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        return "the name is not valid UTF-8"
    if ("\\" in key or not key.isprintable()) and _UNSAFE.search(key):
        return (
            "the name holds a control character, a backslash or one that is none (U+FFFE, U+FFFF)"
        )
    framed = f"/{key}/"
    if "//" in framed or "/./" in framed or "/../" in framed:
        return "the name has an empty or dotted part"
    if length > limit:
        return f"its place at the destination would be {length} bytes long, of {limit} possible"
    return None
