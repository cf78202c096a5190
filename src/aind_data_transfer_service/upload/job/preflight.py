"""What is made sure of before anything is done: the destination is free, writable and large
enough.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    PluginError,
    SourceError,
)
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.plugins import OF_JOBS
from aind_data_transfer_service.storage.base import AssetState, AssetStore
from aind_data_transfer_service.storage.layout import key_problem
from aind_data_transfer_service.upload.manifest.manifest import Manifest
from aind_data_transfer_service.upload.plan.items import FileItems, Item
from aind_data_transfer_service.upload.source.scan import Scan
from aind_data_transfer_service.upload.transforms.registry import own_transform

_PROBLEMS = 50
"""How many problems of sources are named."""
_MARGIN = 64 * 1024**2


def check_scans(scans: list[Scan]) -> None:
    """Make sure that everything found in the sources can be sent.

    Raises
    ------
    SourceError
        Where it cannot, naming what is in the way.
    """
    problems = [problem for scan in scans for problem in scan.problems]
    if problems:
        raise SourceError(listed(problems, _PROBLEMS))


def check_free(store: AssetStore, prefix: str, force: bool) -> AssetState:
    """Make sure that no finished asset of that name is there, unless that is wanted.

    Raises
    ------
    DestinationExistsError
        Where there is one.
    """
    state = store.asset_state(prefix)
    if state == AssetState.PRESENT and not force:  # or did another shard just begin it?
        state = store.asset_state(prefix)
    if state == AssetState.PRESENT and not force:
        raise DestinationExistsError(
            f"{store.location(prefix)} exists already; to upload into it all the same, "
            "set force_cloud_sync"
        )
    return state


def check_session(store: AssetStore, prefix: str, acquired: datetime, zone: ZoneInfo) -> None:
    """Make sure that the asset there is not of another session with the same name.

    Names hold the time of the wall clock, so two sessions in the hour that it shows twice can have
    one name. The manifest states the time of the job that wrote the asset; manifests of earlier
    versions do not, and then `data_description.json` is asked, which may be a person's own.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    acquired : datetime
        When the data of the job were acquired; without an offset, the name is unique.
    zone : ZoneInfo
        The lab's zone.

    Raises
    ------
    DestinationExistsError
        If the asset was acquired at the same time of the wall clock and at another instant, or does
        not state which of the two it is.
    """
    if acquired.tzinfo is None:
        return
    other = _acquired(store, prefix)
    try:
        on_the_wall = other if other is None or other.tzinfo is None else other.astimezone(zone)
    except OverflowError:
        return  # far from any session
    if on_the_wall is None or _name_of(on_the_wall) != _name_of(acquired):
        return
    place, here = store.location(prefix), acquired.isoformat()
    if on_the_wall.tzinfo is None:
        raise DestinationExistsError(
            f"{place} may be the asset of another session: its data_description.json has the "
            f"creation_time {on_the_wall.isoformat()} without an offset, and the clock showed that "
            f"time twice; this session was acquired at {here}. If it is the same one, write the "
            "offset into that file; if not, upload this one to another s3_bucket"
        )
    if on_the_wall.utcoffset() != acquired.utcoffset():
        there = on_the_wall.isoformat()
        raise DestinationExistsError(
            f"{place} is the asset of another session, acquired at {there}; this one was acquired "
            f"at {here}, and the name, which holds the time of the wall clock, is the same. If it "
            f"is the same session, write {there} as acq_datetime; if the seconds were left out or "
            "rounded, write them; if both times are exact, upload this one to another s3_bucket"
        )


def _acquired(store: AssetStore, prefix: str) -> datetime | None:
    """Return when an asset was acquired, if it states that."""
    try:
        stated = Manifest(store, prefix).header.get("acq_datetime")
    except DestinationError:  # without a manifest, or with a damaged one
        stated = None
    try:
        if stated is None:
            content = store.get(f"{prefix}/data_description.json")
            stated = json.loads(content or b"{}").get("creation_time")
        return datetime.fromisoformat(stated)
    except (AttributeError, TypeError, ValueError):
        return None


def _name_of(moment: datetime) -> str:
    """Return the time of the wall clock as the name of an asset holds it, to the second."""
    return moment.isoformat()[:19]


def link_targets(scans: Iterable[Scan]) -> Iterator[str]:
    """Return what links in the sources lead to."""
    return (target for found in scans for target in found.tree.reader.links.values())


def check_apart(store: AssetStore, prefix: str, sources: Iterable[str]) -> None:
    """Make sure that the job does not write into what it reads, nor reads what it writes.

    Raises
    ------
    SourceError
        Where the destination lies in a source, or a source in the destination.
    """
    if not store.is_local:
        return
    place = os.path.realpath(store.location(prefix))
    for source in sources:
        real = os.path.realpath(source)
        if (place + os.sep).startswith(real.rstrip(os.sep) + os.sep):
            raise SourceError(f"the destination {place} lies in the source {shown(source)}")
        if real.startswith(place + os.sep):
            raise SourceError(f"the source {shown(source)} lies in the destination {place}")


def check_room(store: AssetStore, prefix: str, size: int) -> None:
    """Make sure that there is room for an asset of so many bytes, less what is there of it already.

    Raises
    ------
    DestinationError
        Where there is not.
    """
    free = store.free_bytes()
    if free is None or free >= size + _MARGIN:
        return
    needed = max(0, size - sum(item.size for item in store.objects(prefix)))
    if free < needed + _MARGIN:
        raise DestinationError(
            f"{needed:,} bytes are to be sent, and {store.location('')} has room for {free:,}"
        )


def left_behind(scans: list[Scan]) -> Iterator[str]:
    """Tell what lies in the sources and will not arrive."""
    for found in scans:
        if not found.files:
            yield f"{found.tree.folder}: {shown(found.tree.root)} holds no files"
        if found.left_out:
            names = listed([shown(path) for path in sorted(found.left_out)])
            yield f"left out, for sockets, pipes and devices hold no data: {names}"
        if found.broken_links:
            yield f"left out: {listed(found.broken_links, _PROBLEMS)}"
        if total := found.excluded_data.total:
            names = listed(found.excluded_data.first)
            yield f"left out, for EXCLUDE names them ({total:,} files and folders): {names}"
        if found.files:
            yield from _empty(found)


def _empty(found: Scan) -> Iterator[str]:
    """Tell which folders will not arrive."""
    known = set(found.only_excluded)
    for reason, folders in (
        ("a store has no empty folders", [f for f in found.empty_folders if f not in known]),
        ("only excluded names are in these folders", found.only_excluded),
    ):
        if folders:
            names = listed([shown(path) for path in sorted(folders)])
            yield f"left out, for {reason}: {names}"


def without_effect(config: BasicUploadJobConfigs) -> Iterator[str]:
    """Tell which wishes this release does not fulfil."""
    yield from config.warnings
    for modality in config.modalities:
        abbreviation, compress = modality.modality.abbreviation, modality.compress_raw_data
        own = own_transform(abbreviation) if compress else None
        if modality.extra_configs and not (own and own.takes_extra_configs):
            yield (
                f"{modality.default_output_folder_name}: extra_configs have no effect on data "
                "that travel as they are or as a zip"
            )


def check_plugins() -> None:
    """Refuse to work with plug-ins of which nobody knows which one is meant.

    Raises
    ------
    PluginError
        If two have one name, or the installation of this package is broken.
    """
    problems = [line for registry in OF_JOBS for line in registry.errors()]
    if problems:
        raise PluginError(listed(problems))


def plugin_warnings() -> Iterator[str]:
    """Return which plug-ins cannot be used, and why."""
    for registry in OF_JOBS:
        yield from registry.warnings()


def check_keys(transform: str, items: Sequence[Item], prefix: str, folder: str, limit: int) -> None:
    """Refuse objects that a transform places elsewhere than in the folder of its modality.

    Parameters
    ----------
    transform : str
        Its name.
    items : Sequence of Item
        What it makes of the data.
    prefix, folder : str
        The names of the asset and of the folder.
    limit : int
        How many bytes a key may have.

    Raises
    ------
    PluginError
        If a key is not in the folder, or the store cannot have it.
    """
    if isinstance(items, FileItems):  # their keys are names of the source, which were checked
        return
    for item in items:
        problem = key_problem(f"{prefix}/{item.key}", limit)
        if not item.key.startswith(f"{folder}/"):
            problem = f"it is not in the folder {folder}"
        if problem:
            raise PluginError(f"transform {transform}: {shown(item.key)}: {problem}")
