"""How a plan's data reach the store and are proven there: whole, or one shard of them."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.errors import (
    DestinationError,
    TimeLimitError,
    UploadError,
    VerificationError,
)
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.model import StoredObject, Unfinished
from aind_data_transfer_service.upload.job.events import Events, Kind, Step
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.manifest import DOCUMENT
from aind_data_transfer_service.upload.manifest.shard_records import records_there
from aind_data_transfer_service.upload.manifest.unlisted import Left
from aind_data_transfer_service.upload.plan.plan import Plan
from aind_data_transfer_service.upload.resume.claim import Claim
from aind_data_transfer_service.upload.resume.multipart_state import Ledger
from aind_data_transfer_service.upload.resume.sent_files import Arrivals, missing
from aind_data_transfer_service.upload.transfer.engine import Transfer
from aind_data_transfer_service.upload.transfer.progress import Progress
from aind_data_transfer_service.upload.verify.compare import read_back, verify

_LOCAL_READERS, _READERS = 8, 32
"""How many files are read back at once: from a disk, and from a server, whose answers take time."""


@dataclass(frozen=True)
class Kept:
    """What is under an asset that the job did not send."""

    entries: list[Entry]
    """Files that an earlier upload brought."""
    left: Left
    """What is not of the asset."""


@dataclass(frozen=True)
class Sent:
    """What was sent of a plan."""

    files: int
    """How many files of the source, and"""
    bytes: int
    """how many bytes of it."""
    earlier: int
    """How many objects needed no sending: they were there already."""


class Delivery:
    """Brings what is not there yet, and has the store prove what arrived.

    Parameters
    ----------
    store : AssetStore
        Where the asset lies.
    prefix : str
        Its name there.
    settings : UploadSettings
        How many connections, how much memory, and how many shards went before.
    events : Events
        Is told of progress and warned.
    halt : Halt
        Stops the transfer together with the rest of the job.
    """

    def __init__(
        self,
        store: AssetStore,
        prefix: str,
        settings: UploadSettings,
        events: Events,
        halt: Halt,
    ):
        self._store, self._prefix = store, prefix
        self._settings, self._events, self._halt = settings, events, halt
        self._left: set[str] = set()
        """Files found at the start that no record of ours allows to delete: they stay."""
        self.has_begun = False
        """Whether the transfer has begun, which aborts its own uploads if a user cancels it."""

    def send_rest(self, plan: Plan, arrivals: Arrivals, claim: Claim) -> Sent:
        """Send what earlier attempts and shards have not brought."""
        ledger = claim.ledger()
        there = self._already_there(plan, arrivals, claim, ledger)
        self._tell_of_shards()
        return self._send(plan, there, arrivals, ledger)

    def send_shard(self, plan: Plan, part: Plan, places: Sequence[int], claim: Claim) -> Arrivals:
        """Send one shard of a plan, and give all that has arrived of it.

        Parameters
        ----------
        plan : Plan
            The whole.
        part : Plan
            What of it is in the shard.
        places : Sequence[int]
            Which items of the whole those are.
        claim : Claim
            The right to write them.
        """
        arrivals = Arrivals(plan.items, claim.journal)
        wanted = bytearray(len(plan.items))
        for place in places:
            wanted[place] = 1
        arrivals.recall(claim.known(), wanted)
        known, _ = self._confirmed(plan, arrivals)
        there = bytearray(known[place] for place in places)
        whole = {"asset_files": plan.files_total, "asset_bytes": plan.bytes_total}
        ledger = claim.ledger()
        ledger.leave_out(plan.items, known)
        self._send(part, there, arrivals, ledger, **whole)
        return arrivals

    def prove(
        self, entries: Arrivals, claim: Claim, check: Callable[[], None] = lambda: None
    ) -> Kept:
        """Have the store prove what arrived, and return what else stays there.

        Parameters
        ----------
        entries : Arrivals
            What arrived.
        claim : Claim
            The right to write the asset.
        check : Callable
            Raises if the proof is not wanted any more; called often, from several threads.
        """
        location, renamed = self._store.location(self._prefix), itertools.count()

        def take(entry: Entry) -> None:
            entries.list_as(entry)
            next(renamed)

        def may_stay(path: str) -> bool:
            return claim.keep_others or path in self._left

        how = "read back and verified" if self._store.proves_by_reading else "verified"
        with self._events.during(Step.VERIFY, f"{location} is {how}") as figures:
            size = entries.size
            self._store.settle(self._prefix)
            with Progress(len(entries), size, self._tell_progress, "verify") as progress:
                try:
                    others = verify(
                        self._store,
                        self._prefix,
                        entries,
                        may_stay,
                        readers=_LOCAL_READERS if self._store.is_local else _READERS,
                        on_file=lambda entry: progress.add(entry.size, 1),
                        on_renamed=take,
                        cuts=entries.cuts(self._prefix),
                        check=check,
                    )
                except VerificationError as error:
                    claim.journal.doubt(error.paths)
                    self._doubt_records(claim, error.paths)
                    raise
                if not self._store.proves_by_reading:
                    progress.already(len(entries), size)
            if number := next(renamed):
                self._events.warn(
                    f"the store lists {number:,} files with other ETags than it gave them; those "
                    "were read back, and are what was sent"
                )
            if others:
                skip = len(self._prefix) + 1
                names = listed([shown(other.key[skip:]) for other in others])
                self._events.warn(f"kept, though this job did not send them: {names}")
            figures.update(files=len(entries), bytes=size)
            figures["message"] = f"{len(entries):,} files, {size:,} bytes are proven"
            if self._store.proves_by_reading:
                figures["message"] += f", read back {self._store.read_back_from}"
        return self._kept(others, claim) if others else Kept([], Left())

    def _doubt_records(self, claim: Claim, paths: Sequence[str]) -> None:
        """Take files that are not what was sent out of what shards recorded beside the asset."""
        try:
            claim.shards.doubt(paths)
        except UploadError as error:  # what was found matters more
            self._events.warn(str(error))

    def _kept(self, others: Sequence[StoredObject], claim: Claim) -> Kept:
        """Tell files of an earlier upload from those that are not of the asset.

        A file of an earlier upload that someone replaced since is neither: `verify` names it.
        """
        skip = len(self._prefix) + 1
        stored = {other.key[skip:]: other for other in others}
        kept: dict[str, Entry] = {}
        replaced: set[str] = set()
        for entry in claim.earlier if claim.keep_others else ():
            found = stored.get(entry.path)
            if entry.is_stored_as(found):
                kept[entry.path] = entry
            elif found is not None:
                replaced.add(entry.path)
        if replaced := replaced - kept.keys():
            names = listed([shown(path) for path in sorted(replaced)])
            self._events.warn(
                "replaced since an earlier upload brought them, so the manifest no longer names "
                f"them and verify does: {names}"
            )
        if kept and self._store.proves_by_reading and not self._store.is_local:
            self._prove_kept(list(kept.values()), claim)
        known = kept.keys() | replaced
        left = Left.of((other for path, other in stored.items() if path not in known), skip)
        return Kept(list(kept.values()), left)

    def _prove_kept(self, kept: Sequence[Entry], claim: Claim) -> None:
        """Read back what an earlier upload brought, unless the job that brought it did so.

        Raises
        ------
        VerificationError
            If any of it is not what was sent then.
        """
        if claim.earlier.was_read_back:
            return
        found = read_back(self._store, self._prefix, kept, _READERS)
        if words := [difference.words for difference in found]:
            raise VerificationError(
                f"an earlier upload into {self._store.location(self._prefix)} is not what was "
                f"sent: {listed(words)}; bring those files again together with this upload"
            )

    def _send(
        self,
        plan: Plan,
        there: bytearray,
        arrivals: Arrivals,
        ledger: Ledger,
        **more: int,
    ) -> Sent:
        """Send the items of a plan that are not there; `more` is told with the progress.

        Raises
        ------
        TimeLimitError
            If the job's time limit is near; it says how much is kept.
        """
        waiting = missing(plan.items, there)
        files = size = 0
        for item in itertools.compress(plan.items, there) if any(there) else ():
            files, size = files + item.file_count, size + item.source_size

        def tell(figures: dict[str, Any]) -> None:
            self._tell_progress(figures | more)

        with Progress(plan.files_total, plan.bytes_total, tell, self._prefix) as progress:
            progress.already(files, size)
            transfer = Transfer(
                self._store,
                self._prefix,
                progress,
                arrivals.add_all,
                self._settings.upload_connections,
                self._settings.upload_memory,
                ledger,
                self._halt,
            )
            self.has_begun, before = True, arrivals.size
            try:
                transfer.run(waiting)
            except BaseException as error:
                if not isinstance(self._halt.reason, TimeLimitError):
                    raise
                kept = size + arrivals.size - before + ledger.bytes_arrived
                total = plan.bytes_total
                raise TimeLimitError(
                    f"stopped before its time limit: {min(kept, total):,} of {total:,} bytes are "
                    "kept; submit again with a longer time limit"
                ) from error
        return Sent(plan.files_total - files, plan.bytes_total - size, sum(there))

    def _tell_of_shards(self) -> None:
        """Warn where shards of this asset did not do their part, which is done here then."""
        shards = self._settings.upload_shards_done
        if not shards:
            return
        there = records_there(self._store, self._prefix, shards)
        if there < shards:
            self._events.warn(
                f"{shards - there} of {shards} shards did not end well; what they left is sent now"
            )

    def _already_there(
        self, plan: Plan, arrivals: Arrivals, claim: Claim, ledger: Ledger
    ) -> bytearray:
        """Return what an earlier attempt brought, and delete what else our records name of it."""
        if not claim.resumed:
            return bytearray(len(plan.items))
        self._abort_useless(plan, ledger)
        arrivals.recall(claim.known())
        there, others = self._confirmed(plan, arrivals)
        ledger.leave_out(plan.items, there)
        self._abort_superseded(ledger)
        if others and not claim.keep_others:
            self._delete_outdated(plan, others, claim)
        return there

    def _abort_useless(self, plan: Plan, ledger: Ledger) -> None:
        """Abort multipart uploads of our records that cannot continue: their sources changed."""
        useful = ledger.upload_ids(plan.items)
        try:
            self._store.clear_unfinished(self._prefix)
            for path, begun in ledger.uploads():
                if begun.upload_id not in useful:
                    self._store.abort(Unfinished(f"{self._prefix}/{path}", begun.upload_id))
        except DestinationError as error:
            self._events.warn(str(error))

    def _abort_superseded(self, ledger: Ledger) -> None:
        """Abort multipart uploads of our records whose files arrived by others, if there are any.

        Another machine sent the file, say. Most uploads that nothing goes on with are completed, so
        the store is asked which are not.
        """
        closed = ledger.closed_ids()
        try:
            for upload in self._store.unfinished(self._prefix) if closed else ():
                if upload.upload_id in closed:
                    self._store.abort(upload)
        except DestinationError as error:
            self._events.warn(str(error))

    def _delete_outdated(self, plan: Plan, others: Sequence[str], claim: Claim) -> None:
        """Delete what an earlier attempt sent and the plan no longer holds; leave the rest.

        Deleted is what a record of ours names by key and ETag, in a folder that this job brings, or
        as a metadata document: what lies elsewhere is of a job with other modalities.
        """
        skip, paths = len(self._prefix) + 1, set(others)
        folders = tuple(f"{part[0].key.partition('/')[0]}/" for part in plan.items.parts)
        listing = self._store.objects(self._prefix)
        stored = {item.key[skip:]: item for item in listing if item.key[skip:] in paths}
        outdated = {
            stored[entry.path].key: entry.etag
            for entry in itertools.chain(claim.journal.entries().values(), claim.known())
            if (entry.path.startswith(folders) or entry.source == DOCUMENT)
            and entry.is_stored_as(stored.get(entry.path))
        }
        replaced = self._store.delete_matching(outdated)
        gone = outdated.keys() - set(replaced)
        self._left = {path for path in stored if stored[path].key not in gone}
        if self._left:
            names = listed([shown(path) for path in sorted(self._left)])
            self._events.warn(
                f"{len(self._left):,} files under {self._store.location(self._prefix)} are of "
                "other modalities or other software, and stay there. They are not proven; the "
                f"manifest lists them as not of this asset: {names}"
            )

    def _confirmed(self, plan: Plan, arrivals: Arrivals) -> tuple[bytearray, list[str]]:
        """Ask the store what of a plan is there as it is recorded, and what else."""
        skip, cuts = len(self._prefix) + 1, arrivals.cuts(self._prefix)
        listing = self._store.objects(self._prefix, cuts)
        there, others = arrivals.confirm(listing, skip, plan.documents)
        if cuts and arrivals.missed(there):
            listing = self._store.objects(self._prefix)
            there, others = arrivals.confirm(listing, skip, plan.documents)
        return there, others

    def _tell_progress(self, figures: dict[str, Any]) -> None:
        """Tell how far it is."""
        done, total = figures["files_done"], figures["files_total"]
        self._events.emit(Kind.PROGRESS, f"{done:,} of {total:,} files", **figures)
