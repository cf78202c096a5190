"""Find out what a store can do, by trial: write, refuse damaged data, honour conditions."""

import uuid
from collections.abc import Iterator
from concurrent.futures import wait
from functools import partial
from typing import Any

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.storage.base import AssetStore, PreconditionFailed
from aind_data_transfer_service.storage.layout import probe_key

_UNCHECKED = (
    "the S3 server accepts data whose checksum is wrong, so every file is read back after the "
    "upload and its SHA-256 compared: verification takes about as long as the transfer. If the "
    "server checks SHA-256 only, AWS_CHECKSUM_ALGORITHM=SHA256 makes this unnecessary"
)


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
