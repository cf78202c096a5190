"""A folder of documents that someone has put together beforehand (`metadata_dir`)."""

import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.documents import (
    KINDS,
    RECORD_NAME,
    Document,
    Status,
    status_of,
)

_LARGEST = 256 * 1024**2


@dataclass
class Folder:
    """What a folder of metadata holds."""

    documents: dict[str, Document] = field(default_factory=dict)
    """By kind; a file of another name has that name, less its ending, as its kind."""
    left_out: list[str] = field(default_factory=list)
    """Names of what is no JSON file, or is written anew for each upload."""


def read_folder(path: Path) -> Folder | None:
    """Read all documents of a folder; None where there is no such folder.

    Raises
    ------
    MetadataError
        Where the folder or a document cannot be read, naming every such document and the place
        in it.
    """
    found, problems = Folder(), []
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MetadataError(f"metadata_dir {path} cannot be read: {error.strerror}") from error
    for name in names:
        if name == RECORD_NAME or not name.endswith(".json") or not name.isprintable():
            found.left_out.append(name)
            continue
        try:
            document = _read(path / name)
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{path / name}: {_words(error)}")
        else:
            found.documents[document.kind] = document
    if problems:
        raise MetadataError("; ".join(problems))
    return found


def _read(path: Path) -> Document:
    """Read one document, its bytes kept as they are."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a file")
    if status.st_size > _LARGEST:
        raise ValueError(f"is larger than a document may be ({_LARGEST >> 20} MiB)")
    raw = path.read_bytes()
    content = json.loads(raw.decode("utf-8-sig"), parse_constant=lambda _: None)  # NaN is no JSON
    if not isinstance(content, dict):
        raise ValueError("holds something other than one JSON object")
    kind = path.name.removesuffix(".json")
    known = status_of(kind, content) if kind in KINDS else Status.UNKNOWN
    return Document(kind, content, known, str(path), raw)


def _words(error: Exception) -> str:
    """Say what is wrong with a document."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error)
