"""Documents in folders: a job's own (`metadata_dir`), and the lab's, by id (`METADATA_FOLDER`)."""

import json
import os
import stat
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from aind_data_transfer_service.errors import MetadataError, SourceError
from aind_data_transfer_service.metadata.base import Found, SourceBase
from aind_data_transfer_service.metadata.documents import RECORD_NAME, Document
from aind_data_transfer_service.metadata.validation import status_of
from aind_data_transfer_service.settings.schema_generation import Generation
from aind_data_transfer_service.source_paths.drive_retry import DELAYS, Drive, reason
from aind_data_transfer_service.source_paths.excluded_names import LEFT_BY_PROGRAMS, ExcludedNames
from aind_data_transfer_service.source_paths.links import REPAIR, BrokenLinkError, follow_link
from aind_data_transfer_service.source_paths.roots import SourceRoots

_PROJECTS = "project_names.json"
_LARGEST = 256 * 1024**2


@dataclass
class Folder:
    """What a folder of metadata holds."""

    documents: dict[str, Document] = field(default_factory=dict)
    """By kind; a file of another name has that name, less its ending, as its kind."""
    left_out: list[str] = field(default_factory=list)
    """Names of what is not a JSON file, is hidden, is written for each upload, or is excluded by
    other patterns than the default ones."""
    excluded: list[str] = field(default_factory=list)
    """Names that are excluded."""
    broken_links: list[str] = field(default_factory=list)
    """What is wrong with links that are left out."""


def read_folder(
    path: Path,
    drive: Drive | None = None,
    roots: SourceRoots | None = None,
    exclude: ExcludedNames | None = None,
    keeps_broken_links_out: bool = False,
    generation: Generation = Generation.V0,
) -> Folder | None:
    """Read all documents of a folder; None where there is no such folder.

    Parameters
    ----------
    path : Path
        The folder.
    drive : Drive | None
        Retries reads that fail with an error that may pass.
    roots : SourceRoots | None
        The folders that may be read; by default all but private ones.
    exclude : ExcludedNames | None
        Names that are left out; by default none.
    keeps_broken_links_out : bool
        Whether a broken link is left out, rather than an error.
    generation : Generation
        The generation of the schema that the documents ought to follow.

    Raises
    ------
    MetadataError
        Where the folder or a document cannot be read, naming every such document and the place
        in it.
    """
    found, problems = Folder(), []
    drive, roots, exclude = drive or Drive(), roots or SourceRoots(), exclude or ExcludedNames()
    try:
        names = sorted(drive.run(str(path), lambda: _names(path, roots)))
    except FileNotFoundError:
        return None
    except SourceError as error:
        raise MetadataError(f"metadata_dir: {error}") from error
    except OSError as error:
        raise MetadataError(f"metadata_dir {path} cannot be read: {reason(error)}") from error
    for name in _without_excluded(names, exclude, found):
        is_document = name.endswith(".json") and name.isprintable() and not name.startswith(".")
        if name == RECORD_NAME or not is_document:
            found.left_out.append(name)
            continue
        try:
            document = drive.run(str(path / name), partial(_read, path / name, roots, generation))
        except (SourceError, OSError, ValueError, RecursionError) as error:
            if keeps_broken_links_out and isinstance(error, BrokenLinkError):
                found.broken_links.append(str(error))
            else:
                problems.append(_problem(path / name, error))
        else:
            found.documents[document.kind] = document
    if problems:
        raise MetadataError("; ".join(problems))
    return found


class FolderSource(SourceBase):
    """A lab-wide folder: a folder a kind of document, in it a file an id.

    `subject/690165.json`, `procedures/690165.json`, `rig/RIG.json`, `instrument/INSTRUMENT.json`,
    `funding/PROJECT.json` (a list), and `project_names.json` (a list) for all of them.

    Parameters
    ----------
    path : Path
        The folder.
    attempts : int
        How often a file is read in all, if the drive has a fault that may pass.
    """

    name = "folder"
    kinds = frozenset({"subject", "procedures", "instrument", "rig", "project_names", "funding"})

    def __init__(self, path: Path, attempts: int = 1):
        self._path, self._delays = path, DELAYS[: attempts - 1]

    def subject(self, subject_id: str) -> Found | None:
        """Read `subject/ID.json`."""
        return self._document("subject", subject_id)

    def procedures(self, subject_id: str) -> Found | None:
        """Read `procedures/ID.json`."""
        return self._document("procedures", subject_id)

    def instrument(self, instrument_id: str) -> Found | None:
        """Read `instrument/ID.json`."""
        return self._document("instrument", instrument_id)

    def rig(self, rig_id: str) -> Found | None:
        """Read `rig/ID.json`."""
        return self._document("rig", rig_id)

    def funding(self, project_name: str) -> list[dict[str, Any]]:
        """Read `funding/PROJECT.json`: a list of objects."""
        content = self._content("funding", project_name)
        path = self._path / "funding" / f"{project_name}.json"
        return [] if content is None else _list_of(content, dict, path)

    def project_names(self) -> list[str]:
        """Read `project_names.json`: a list of texts."""
        content = self._content("", _PROJECTS.removesuffix(".json"))
        return [] if content is None else _list_of(content, str, self._path / _PROJECTS)

    def _document(self, kind: str, identifier: str) -> Found | None:
        content = self._content(kind, identifier)
        path = self._path / kind / f"{identifier}.json"
        if content is None:
            return None
        if not isinstance(content, dict):
            raise MetadataError(f"{path} holds something other than one JSON object")
        return Found(content, True, str(path))  # valid as far as this source can tell

    def _content(self, kind: str, identifier: str) -> Any:
        """Read a file; None where there is none, and for what cannot be the name of one."""
        name = f"{identifier}.json"
        if "/" in name or "\0" in name or name.startswith("."):
            return None
        path = self._path / kind / name
        try:
            return _json(Drive(delays=self._delays).run(str(path), partial(_bytes, path)))
        except FileNotFoundError:
            if os.path.isdir(self._path):
                return None
            raise MetadataError(f"METADATA_FOLDER {self._path} is not there") from None
        except (OSError, ValueError, RecursionError) as error:
            raise MetadataError(f"{path}: {_words(error)}") from error


def _list_of(content: Any, of: type, path: Path) -> list[Any]:
    """Take a list of one kind of thing."""
    if not isinstance(content, list) or not all(isinstance(one, of) for one in content):
        wanted = "objects" if of is dict else "texts"
        raise MetadataError(f"{path} holds something other than a list of {wanted}")
    return content


def _names(path: Path, roots: SourceRoots) -> list[str]:
    """List a folder."""
    descriptor = roots.open(str(path))
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def _without_excluded(names: list[str], exclude: ExcludedNames, found: Folder) -> list[str]:
    """Return the names that are not excluded, and note the others."""
    found.excluded = [name for name in names if exclude.match(name)]
    data = (name for name in found.excluded if not LEFT_BY_PROGRAMS.match(name))
    found.left_out = [f"{name} (excluded)" for name in data]
    return [name for name in names if not exclude.match(name)]


def _read(path: Path, roots: SourceRoots, generation: Generation) -> Document:
    """Read one document, its bytes kept as they are."""
    if path.is_symlink():
        follow_link(str(path), [os.path.realpath(path.parent)], roots)
    raw = _bytes_of(roots.open(str(path)))
    content = _json(raw)
    if not isinstance(content, dict):
        raise ValueError("holds something other than one JSON object")
    kind = path.name.removesuffix(".json")
    status = status_of(kind, content, generation)
    return Document(kind, content, status, str(path), raw, generation=generation)


def _bytes(path: Path) -> bytes:
    """Read a file that may be a document."""
    _check_document(path.stat())
    return path.read_bytes()


def _bytes_of(descriptor: int) -> bytes:
    """Read an open file that may be a document, and close it."""
    try:
        _check_document(os.fstat(descriptor))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _check_document(status: os.stat_result) -> None:
    """Refuse what cannot be a document."""
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is not a file")
    if status.st_size > _LARGEST:
        raise ValueError(f"is larger than a document may be ({_LARGEST >> 20} MiB)")


def _json(raw: bytes) -> Any:
    """Read JSON; NaN, which is none, as nothing."""
    return json.loads(raw.decode("utf-8-sig"), parse_constant=lambda _: None)


def _problem(path: Path, error: Exception) -> str:
    """Say why a document cannot be taken."""
    if isinstance(error, SourceError):
        return f"{error}{REPAIR}" if isinstance(error, BrokenLinkError) else str(error)
    return f"{path}: {_words(error)}"


def _words(error: Exception) -> str:
    """Say what is wrong with a document."""
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "is not UTF-8 text"
    if isinstance(error, OSError):
        return f"cannot be read: {reason(error)}"
    return str(error)
