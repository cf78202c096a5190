"""The right to write an asset, and what earlier attempts at it left."""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.layout import former_manifest_key, manifest_key
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.manifest.manifest import READ_BACK, Manifest
from aind_data_transfer_service.upload.manifest.shard_records import ShardRecords
from aind_data_transfer_service.upload.resume.lease import Lease
from aind_data_transfer_service.upload.resume.multipart_state import Ledger


@dataclass(frozen=True)
class Claim:
    """The right to write an asset."""

    started: datetime
    """When the first attempt began."""
    resumed: bool
    """Whether an earlier attempt left something."""
    keep_others: bool
    """Whether files that this job does not send stay where they are."""
    journal: Journal
    earlier: "Earlier"
    """What the asset's manifest of an earlier upload names."""
    shards: ShardRecords
    """What shards of the asset have brought."""
    lease: Lease
    """The sign of life of this job."""
    before: Journal | None = None
    """For a shard: the journal of an attempt that had none."""

    def ledger(self) -> Ledger:
        """Open what is noted of uploads in parts, by this job and by those that it goes on for."""
        others = self.shards.journals() if self.before is None else [self.before]
        return Ledger(self.journal, others)

    def known(self) -> Iterator[Entry]:
        """Give what other jobs than this one are known to have brought, the newest first."""
        yield from self.shards
        if self.before is not None:
            yield from self.before.entries().values()
        yield from self.earlier


class Earlier(Iterable[Entry]):
    """The manifest of an earlier upload, as far as there is one that can be read.

    What cannot be read is not known, and sent again. A job that was killed while it replaced the
    manifest left a copy as well. The newer manifest comes first then.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    """

    def __init__(self, store: AssetStore, prefix: str):
        self._store, self._prefix = store, prefix

    def __iter__(self) -> Iterator[Entry]:
        for manifest in self._manifests():
            with contextlib.suppress(DestinationError):
                yield from manifest

    @property
    def was_read_back(self) -> bool:
        """Return whether the job that brought its files had read all of them back."""
        return {one.header.get("proof") for one in self._manifests()} == {READ_BACK}

    def _manifests(self) -> Iterator[Manifest]:
        """Open the manifest and the copy of the one before, as far as they are there."""
        for key in (manifest_key(self._prefix), former_manifest_key(self._prefix)):
            try:
                manifest = Manifest(self._store, self._prefix, key)
            except DestinationError:
                continue
            yield manifest
