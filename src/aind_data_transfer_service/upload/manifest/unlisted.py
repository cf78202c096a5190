"""Objects under an asset that are not of it, and stayed when it was published.

The header of the manifest lists them, so that `verify` can tell them from what came later. Each is
listed by path, size and ETag, in `left`, if there is room for all (`sample.MOST_BYTES`). Otherwise
their top folders are listed, each with one SHA-256 of all paths, sizes and ETags in it, in
`left_folders`: an upload of other software may have any number of files, and the header is read
whenever the state of the asset is checked.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from aind_data_transfer_service.plain_text import shown
from aind_data_transfer_service.storage.model import StoredObject, bare_etag, same_etag
from aind_data_transfer_service.upload.source.sample import fits

_ROOT, _ALL = "./", "/"
"""What stands for objects that are in no folder, and for all objects if there are too many folders:
neither can be the name of a folder, not even of the empty one that a key with `//` has."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class LeftObject(msgspec.Struct, frozen=True):
    """One object that stayed."""

    path: str
    size: _Count
    etag: str


class LeftFolder(msgspec.Struct, frozen=True):
    """All objects of a top folder that stayed."""

    folder: str
    files: _Count
    bytes: _Count
    sha256: str
    """Of their paths, sizes and ETags."""


class Left(msgspec.Struct):
    """The fields of a manifest's header that list objects which are not of the asset.

    Headers of earlier releases have none: nothing is known then.
    """

    left: list[LeftObject] = []
    left_folders: list[LeftFolder] = []

    @classmethod
    def of(cls, stored: Iterable[StoredObject], skip: int) -> "Left":
        """List objects.

        Parameters
        ----------
        stored : Iterable[StoredObject]
            The objects, as the store lists them.
        skip : int
            How many characters of each key come before the place in the asset.
        """
        objects = sorted(
            (_object(item.key[skip:], item) for item in stored), key=attrgetter("path")
        )
        if fits(objects):
            return cls(objects)
        by_top: dict[str, list[LeftObject]] = {}
        for one in objects:
            by_top.setdefault(_top(one.path), []).append(one)
        folders = [_folder(top, some) for top, some in by_top.items()]
        return cls([], folders if fits(folders) else [_folder(_ALL, objects)])

    def fields(self) -> dict[str, Any]:
        """Return the fields of the header that say so: none if nothing stayed."""
        found: dict[str, Any] = msgspec.structs.asdict(self)
        return {name: value for name, value in found.items() if value}

    def split(
        self, others: Mapping[str, StoredObject]
    ) -> tuple[list[LeftObject | LeftFolder], list[str], list[tuple[LeftFolder, LeftFolder]]]:
        """Tell what stayed, and is what it was, from what was changed or added since.

        Parameters
        ----------
        others : Mapping[str, StoredObject]
            What the store lists and the manifest does not name, by its place in the asset.

        Returns
        -------
        tuple[list[LeftObject | LeftFolder], list[str], list[tuple[LeftFolder, LeftFolder]]]
            What is as it was; the places of objects that are not; and folders that are not, each as
            it was and as it is now.
        """
        named = {one.path: one for one in self.left}
        folders = {one.folder: one for one in self.left_folders}
        same: list[LeftObject | LeftFolder] = []
        different: list[str] = []
        together: dict[str, list[LeftObject]] = {}
        for path, found in others.items():
            now = _object(path, found)
            known = named.get(now.path)
            folder = _ALL if _ALL in folders else _top(now.path)
            if known and known.size == now.size and same_etag(known.etag, now.etag):
                same.append(known)
            elif folder in folders:
                together.setdefault(folder, []).append(now)
            else:
                different.append(path)
        changed: list[tuple[LeftFolder, LeftFolder]] = []
        for folder, objects in together.items():
            objects.sort(key=attrgetter("path"))
            was, is_now = folders[folder], _folder(folder, objects)
            if was == is_now:
                same.append(was)
            else:
                changed.append((was, is_now))
        return same, different, changed


def total(left: Iterable[LeftObject | LeftFolder]) -> tuple[int, int]:
    """Return how many objects these are, and of how many bytes."""
    files = size = 0
    for one in left:
        if isinstance(one, LeftFolder):
            files, size = files + one.files, size + one.bytes
        else:
            files, size = files + 1, size + one.size
    return files, size


def name_of(one: LeftObject | LeftFolder) -> str:
    """Write the name of an object or a folder that stayed, for people."""
    if isinstance(one, LeftObject):
        return shown(one.path)
    names = {_ALL: "all folders", _ROOT: "files in no folder"}
    return names.get(one.folder) or f"{shown(one.folder)}/"


def _object(path: str, stored: StoredObject) -> LeftObject:
    """Describe an object; local files of other software may have names that are not UTF-8."""
    written = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return LeftObject(written, stored.size, stored.etag)


def _top(path: str) -> str:
    """Return the top folder of a path."""
    top, slash, _ = path.partition("/")
    return top if slash else _ROOT


def _folder(name: str, objects: Sequence[LeftObject]) -> LeftFolder:
    """Describe objects together, in the order of their paths."""
    digest = hashlib.sha256()
    for one in objects:
        digest.update(f"{one.path}\0{one.size}\0{bare_etag(one.etag)}\n".encode())
    size = sum(one.size for one in objects)
    return LeftFolder(name, len(objects), size, digest.hexdigest())
