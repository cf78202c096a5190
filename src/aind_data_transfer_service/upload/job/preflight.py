"""What is made sure of before anything is done: the destination is free, writable and large
enough.
"""

import json
import os
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import (
    DestinationError,
    DestinationExistsError,
    SourceError,
    TransferError,
)
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.storage.base import AssetState, AssetStore, PreconditionFailed
from aind_data_transfer_service.storage.layout import probe_key
from aind_data_transfer_service.upload.manifest.manifest import Manifest
from aind_data_transfer_service.upload.source.scan import Scan

_PROBLEMS = 50
"""How many problems of sources are named."""
_MARGIN = 64 * 1024**2
_UNCHECKED = (
    "the S3 server accepts data whose checksum is wrong, so every file is read back after the "
    "upload and its SHA-256 compared: verification takes about as long as the transfer. If the "
    "server checks SHA-256 only, AWS_CHECKSUM_ALGORITHM=SHA256 makes this unnecessary"
)


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


def check_writes(store: AssetStore, prefix: str) -> list[str]:
    """Try at once whether the store takes data as a transfer sends them, and conditional writes.

    Returns
    -------
    list[str]
        Warnings for the person who submitted the job.

    Raises
    ------
    DestinationError
        If the store cannot be written.
    """
    store.create()
    conditions = beside(lambda: list(check_conditions(store, prefix)), "conditions")
    try:
        warnings = probe(store, prefix)
    except DestinationError:
        wait([conditions])  # it deletes what it wrote
        raise
    return warnings + conditions.result()


def probe(store: AssetStore, prefix: str) -> list[str]:
    """Write a small object, read it back and delete it; find out whether checksums are checked.

    A server that accepts a body with a wrong checksum, in one request or as a part of a multipart
    upload, is marked: verification reads everything back from it. The storage class of data is
    tried too. All of these are tried at once.

    Returns
    -------
    list[str]
        Warnings for the person who submitted the job.

    Raises
    ------
    DestinationError
        If any of it fails.
    """
    key, whole, in_parts, in_class = (f"{probe_key(prefix)}{end}" for end in ("", "-w", "-p", "-c"))
    said = uuid.uuid4().bytes
    asked = () if store.proves_by_reading else ((whole, False), (in_parts, True))
    answers = [beside(partial(store.refuses_damage, *ask), "checksums") for ask in asked]
    tried = beside(partial(store.check_storage_class, in_class), "storage class")
    try:
        store.put(key, said)
        found = store.get(key)
        checks = all([answer.result() for answer in answers])
        store.delete([key, whole] if answers else [key])
    except TransferError as error:
        raise DestinationError(f"{error}{store.refused_setting(key, said, error)}") from error
    if found != said:
        raise DestinationError(f"{store.location(key)} was written and read back otherwise")
    tried.result()
    if checks:
        return []
    if store.archive_class:
        raise DestinationError(
            "the S3 server accepts data whose checksum is wrong, so every file has to be read "
            f"back, and S3_STORAGE_CLASS is {store.archive_class}, whose objects cannot be read; "
            "set another one. If the server checks SHA-256 only, set AWS_CHECKSUM_ALGORITHM=SHA256"
        )
    store.proves_by_reading = True
    return [_UNCHECKED]


def check_conditions(store: AssetStore, prefix: str) -> Iterator[str]:
    """Find out whether a store supports conditional writes, and warn if it does not.

    Without them the job compares ETags itself before it writes a lease.

    Raises
    ------
    DestinationError
        If the store cannot be written.
    """
    key = probe_key(prefix)
    try:
        try:
            store.conditional = _honours_conditions(store, key) and store.conditional
        finally:
            store.delete([key])
    except TransferError as error:
        raise DestinationError(str(error)) from error
    if not store.conditional:
        yield (
            f"{store.location('')} does not support conditional writes (If-None-Match and "
            "If-Match): if two jobs on different machines start to send this asset within the "
            "same seconds, both may write it"
        )


def _honours_conditions(store: AssetStore, key: str) -> bool:
    """Return whether a store refuses what its conditions forbid, and nothing else."""
    try:
        etag = store.put(key, uuid.uuid4().bytes, new=True)
        store.put(key, uuid.uuid4().bytes, if_match=etag)
    except (PreconditionFailed, FileExistsError, NotImplementedError):
        return False
    forbidden = ({"new": True}, {"if_match": etag})
    answers = [beside(partial(_refuses, store, key, one), "conditions") for one in forbidden]
    wait(answers)
    return all([answer.result() for answer in answers])


def _refuses(store: AssetStore, key: str, condition: dict[str, Any]) -> bool:
    """Return whether a store refuses to write an object on a condition that does not hold."""
    try:
        store.put(key, uuid.uuid4().bytes, **condition)
    except (PreconditionFailed, FileExistsError):
        return True
    return False


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
        if modality.extra_configs:
            yield (
                f"{modality.default_output_folder_name}: extra_configs have no effect on data "
                "that travel as they are or as a zip"
            )
