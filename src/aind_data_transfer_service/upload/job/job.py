"""The data transfer job, from the request to the verified asset.

`UploadJob.run` is the list of its steps. It tells what it does by events (`upload.job.events`), and
raises what stops it.
"""

import contextlib
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

from aind_data_transfer_service import __version__
from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.daemon_thread import Pool, beside
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import (
    CancelledError,
    DestinationError,
    DestinationExistsError,
    MetadataError,
    SourceChangedError,
    UploadError,
)
from aind_data_transfer_service.metadata.assemble import gather, provenance
from aind_data_transfer_service.metadata.asset_facts import Facts
from aind_data_transfer_service.metadata.documents import RECORD_NAME, Document
from aind_data_transfer_service.metadata.registry import open_lab
from aind_data_transfer_service.metadata.sources.folder import Folder, read_folder
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.source_paths.drive_retry import Drive
from aind_data_transfer_service.source_paths.excluded_names import ExcludedNames
from aind_data_transfer_service.source_paths.roots import SourceRoots
from aind_data_transfer_service.storage.base import AssetState, AssetStore, Conduct
from aind_data_transfer_service.storage.layout import key_problem
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.probes import check_writes
from aind_data_transfer_service.upload.job import preflight
from aind_data_transfer_service.upload.job.bucket import find_bucket
from aind_data_transfer_service.upload.job.documents import (
    SOFTWARE,
    complete,
    earlier_processing,
    facts_of,
)
from aind_data_transfer_service.upload.job.events import Events, Kind, Step
from aind_data_transfer_service.upload.job.post_upload import Afterwards
from aind_data_transfer_service.upload.job.send_and_verify import Delivery, Kept
from aind_data_transfer_service.upload.job.source_recheck import changed_since_sent
from aind_data_transfer_service.upload.manifest.entry import Entry, utc
from aind_data_transfer_service.upload.manifest.manifest import (
    CHECKSUMS,
    DOCUMENT,
    READ_BACK,
    Manifest,
    write_manifest,
)
from aind_data_transfer_service.upload.manifest.shard_records import unlike, write_record
from aind_data_transfer_service.upload.plan.estimate import estimate
from aind_data_transfer_service.upload.plan.items import FileItems, Item, links_of
from aind_data_transfer_service.upload.plan.plan import Compression, Picked, Plan, Series
from aind_data_transfer_service.upload.plan.shards import Shard, places_of
from aind_data_transfer_service.upload.resume.asset_lock import claim_asset
from aind_data_transfer_service.upload.resume.claim import Claim
from aind_data_transfer_service.upload.resume.lease import Timing
from aind_data_transfer_service.upload.resume.sent_files import Arrivals
from aind_data_transfer_service.upload.resume.shard_lock import claim_shard
from aind_data_transfer_service.upload.resume.state_removal import (
    abort_noted_uploads,
    release,
    remove_lease,
)
from aind_data_transfer_service.upload.source.changes import changes_between, check_still
from aind_data_transfer_service.upload.source.check import check_sources
from aind_data_transfer_service.upload.source.sample import Sample
from aind_data_transfer_service.upload.source.scan import Rules, Scan, scan
from aind_data_transfer_service.upload.transforms.registry import plan_modality
from aind_data_transfer_service.upload.transforms.uncompressed import Uncompressed

_DOCUMENTS_AT_ONCE = 8
_PUBLISH_GRACE = 3.0
"""Seconds in which the manifest of a verified asset is written once the job has to end."""
_ABORT_GRACE = 3.0
"""Seconds in which the uploads of earlier attempts are aborted once a user cancelled the job."""
_RELEASE_GRACE = 3.0
"""Seconds in which the records of a verified asset are removed once the job has to end."""


@dataclass(frozen=True)
class Outcome:
    """What a job did."""

    location: str
    files: int
    """How many files of the asset are proven, documents included; planned ones in a dry run."""
    bytes: int
    seconds: float


def _broken_links(scans: Sequence[Scan]) -> list[str]:
    """Return what is wrong with the links that are left out."""
    return [text for found in scans for text in found.broken_links]


def _check(answer: Future[Any]) -> None:
    """Raise the error of something in the background once it has failed."""
    if answer.done():
        answer.result()


class UploadJob:
    """Brings one session to its destination.

    Parameters
    ----------
    config : BasicUploadJobConfigs
        What was asked for.
    settings : UploadSettings
        What the environment says.
    events : Events | None
        Is told of everything; by default as the settings say.
    output : TextIO | None
        Where a dry run prints its plan; the standard output by default.
    now : Callable
        The clock.
    on_publish : Callable
        Is called before the manifest is written: from then on the thread that runs the job must not
        be interrupted.
    on_proven : Callable
        Is called when the asset is whole: from then on the job is not to be stopped any more.
    plan_as_json : bool
        Whether a dry run prints its plan for programs rather than for people.
    afterwards : PostUploadSettings | None
        Who hears of the asset then; by default nobody.
    halt : Halt | None
        Stops all work of the job; by default nobody can.
    timing : Timing | None
        The intervals of the lease; by default it is as patient as requests are.
    """

    def __init__(
        self,
        config: BasicUploadJobConfigs,
        settings: UploadSettings,
        events: Events | None = None,
        output: TextIO | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_publish: Callable[[], None] = lambda: None,
        on_proven: Callable[[], None] = lambda: None,
        plan_as_json: bool = False,
        afterwards: PostUploadSettings | None = None,
        halt: Halt | None = None,
        timing: Timing | None = None,
    ):
        bucket = find_bucket(config, settings)
        self._config = config.model_copy(update={"s3_bucket": bucket})
        self._settings = settings
        self._events = events or Events(settings.upload_events_file, settings.job_id)
        self._events.asset = self._prefix = config.s3_prefix
        self._output, self._now, self._on_proven = output, now, on_proven
        self._on_publish = on_publish
        self._plan_as_json = plan_as_json
        self._timing = timing or Timing(patience=settings.upload_retry_seconds)
        self._zone = ZoneInfo(settings.lab_timezone)
        self._store: AssetStore = open_store(
            settings.destination_root,
            bucket,
            settings.s3_endpoint_url,
            conduct=Conduct(
                settings.upload_retry_seconds, settings.upload_bandwidth, self._events.warn
            ),
        )
        self._drive = Drive(self._events.warn)
        self._exclude = ExcludedNames(settings.exclude)
        self._leaves_broken_links_out = settings.broken_links == "warn"
        self._location = self._store.location(self._prefix)
        self._halt = halt or Halt()
        self._delivery = Delivery(self._store, self._prefix, settings, self._events, self._halt)
        self._afterwards = Afterwards(
            afterwards, self._config, self._location, self._events, self._halt
        )
        self._began = time.monotonic()

    def run(self) -> Outcome:
        """Go through all steps.

        Raises
        ------
        UploadError
            Where a step fails; what was sent so far stays, and a further job goes on from there.
        """
        try:
            return self._run()
        except BaseException as error:
            is_cancelled = isinstance(
                self._halt.reason or error, (CancelledError, KeyboardInterrupt)
            )
            if is_cancelled and not self._delivery.has_begun and not self._config.dry_run:
                self._abort_earlier_uploads()
            raise

    def _abort_earlier_uploads(self) -> None:
        """Abort what earlier attempts left: a user cancelled the job before its transfer began."""
        shard = self._settings.upload_shard
        work = partial(
            abort_noted_uploads,
            self._store,
            self._prefix,
            self._asset_state_dir,
            Shard(*shard) if shard else None,
        )
        aborted = beside(work, "abort")
        wait([aborted], _ABORT_GRACE)
        try:
            if aborted.done():
                return aborted.result()
            reason = "not in time"
        except (UploadError, OSError) as error:
            reason = str(error)
        self._events.warn(
            f"multipart uploads of an earlier attempt at {self._location} may be left: {reason}; "
            "`aind-data-transfer-service clean` removes them"
        )

    def _run(self) -> Outcome:
        """Go through all steps."""
        try:
            scans, state = self._preflight()
        except DestinationExistsError:
            if (outcome := self._published_before()) is None:
                raise
            return outcome
        documents, folder = self._metadata()
        plan = self._modalities(scans, documents, folder)
        if self._config.dry_run:
            return self._show(plan)
        if self._settings.upload_shard is not None:
            return self._run_shard(scans, plan, Shard(*self._settings.upload_shard))
        with contextlib.ExitStack() as stack:
            try:
                claim = stack.enter_context(self._claim(state))
            except DestinationExistsError:
                if (outcome := self._published_before()) is None:
                    raise
                return outcome
            claim.lease.on_loss(self._halt.stop)
            self._compare_with_shards(scans)
            try:
                arrivals = self._transfer(plan, documents, claim)
            except SourceChangedError as error:
                raise self._with_all_changes(error, scans) from error
            compare = partial(self._compare_sources, scans, plan, arrivals, claim)
            unchanged = beside(compare, "sources")
            kept = self._delivery.prove(arrivals, claim, partial(_check, unchanged))
            unchanged.result()
            return self._publish(plan, arrivals, kept, claim)

    def _run_shard(self, scans: Sequence[Scan], plan: Plan, shard: Shard) -> Outcome:
        """Send one shard of the plan, and leave the rest to the others and to the last job."""
        places = places_of(plan.items, shard, self._settings.upload_shard_bytes)
        part = replace(plan, items=Series([Picked(plan.items, places)]))
        arguments = self._store, self._prefix, self._asset_state_dir, shard
        force, job_id = self._config.force_cloud_sync, str(self._settings.job_id)
        with claim_shard(
            *arguments, force, job_id, self._now, self._events.wait_for_lease, self._timing
        ) as claim:
            claim.lease.on_loss(self._halt.stop)
            with self._events.during(Step.TRANSFER, f"{shard} is sent") as figures:
                try:
                    arrivals = self._delivery.send_shard(plan, part, places, claim)
                except SourceChangedError as error:
                    raise self._with_all_changes(error, scans) from error
                sent = arrivals.of(places)
                fence, broken = claim.lease.fence, _broken_links(scans)
                write_record(self._store, self._prefix, shard, sent, fence, job_id, broken)
                claim.journal.remove()
                figures.update(files=part.files_total, bytes=part.bytes_total)
                figures["message"] = f"{shard}: {part.files_total:,} files have arrived"
        outcome = Outcome(self._location, part.files_total, part.bytes_total, self._seconds())
        self._tell_end(outcome, f"{shard} is done")
        return outcome

    def _preflight(self) -> tuple[list[Scan], AssetState]:
        """Look at the sources and the destination, and write nothing that stays."""
        with self._events.during(Step.PREFLIGHT, "sources and destination are checked") as figures:
            preflight.check_plugins()
            check_sources(
                [(m.default_output_folder_name, m.source) for m in self._config.modalities],
                self._drive,
                self._source_roots(),
                list(self._other_paths()),
            )
            sources = [str(m.source) for m in self._config.modalities]
            preflight.check_apart(self._store, self._prefix, sources)
            force = self._config.force_cloud_sync
            state = preflight.check_free(self._store, self._prefix, force)
            if state is AssetState.PRESENT:
                acquired = self._config.acq_datetime
                preflight.check_session(self._store, self._prefix, acquired, self._zone)
            scans = self._scan()
            for warning in (
                *preflight.left_behind(scans),
                *preflight.plugin_warnings(),
                *preflight.without_effect(self._config),
                *(self._afterwards.problems() if not self._settings.upload_shard else ()),
            ):
                self._events.warn(warning)
            preflight.check_scans(scans)
            preflight.check_apart(self._store, self._prefix, preflight.link_targets(scans))
            size = sum(found.size for found in scans)
            files = sum(len(found.files) for found in scans)
            figures.update(files=files, bytes=size)
            figures["message"] = f"{files:,} files, {size:,} bytes"
            if not self._config.dry_run:
                for warning in check_writes(self._store, self._prefix):
                    self._events.warn(warning)
                preflight.check_room(self._store, self._prefix, size)
        return scans, state

    def _source_roots(self) -> SourceRoots:
        """Return which folders this job may read, as they are on this machine now."""
        return SourceRoots(self._settings.source_roots, self._settings.private_paths)

    def _other_paths(self) -> Iterator[tuple[str, str]]:
        """List what else the request names."""
        if self._config.metadata_dir is not None:
            yield "metadata_dir", str(self._config.metadata_dir)
        for modality in self._config.modalities:
            if isinstance(modality.extra_configs, str):
                yield f"{modality.default_output_folder_name}.extra_configs", modality.extra_configs

    def _scan(self, is_first: bool = True) -> list[Scan]:
        """Find everything in the sources."""
        rules = Rules(self._source_roots(), self._exclude, self._leaves_broken_links_out)
        return [
            scan(
                str(modality.source),
                modality.default_output_folder_name,
                self._prefix,
                self._store.key_limit,
                self._drive,
                is_first,
                rules,
            )
            for modality in self._config.modalities
        ]

    def _compare_with_shards(self, scans: Sequence[Scan]) -> None:
        """Make sure that the shards that went before left out the same links.

        Raises
        ------
        SourceChangedError
            If not: files that they sent would be missing from the asset, and nobody would know.
        """
        shards, broken = self._settings.upload_shards_done, _broken_links(scans)
        if not shards or not self._leaves_broken_links_out:
            return
        job_id = str(self._settings.job_id)
        if found := unlike(self._store, self._prefix, shards, job_id, broken):
            others = ", ".join(f"{count:,} by {shard}" for shard, count in found.items())
            names = f" ({listed(broken)})" if broken else ""
            raise SourceChangedError(
                f"the last job leaves out {len(broken):,} broken links{names}; others were left "
                f"out by its shards: {others}; see that all machines of the cluster have the "
                "drives that the links lead to, and that nothing writes to the source, and submit "
                "again"
            )

    def _compare_sources(
        self, scans: Sequence[Scan], plan: Plan, arrivals: Arrivals, claim: Claim
    ) -> None:
        """Make sure that what was sent is still what the sources hold."""
        later = self._scan(is_first=False)
        check_still(scans, later)
        looks = {now.tree: now.files for now in later}
        changed = list(changed_since_sent(plan.items, looks, arrivals))
        if changed:
            claim.journal.doubt(changed)
            names = listed([f"{shown(key)} holds other bytes than were sent" for key in changed])
            raise SourceChangedError(
                f"the source changed while the job ran, and its times do not show it: {names}; "
                "wait until nothing writes to it and submit again"
            )

    def _with_all_changes(
        self, error: SourceChangedError, scans: Sequence[Scan]
    ) -> SourceChangedError:
        """Look at all files once one of them changed while it was read, and name every change."""
        changed = changes_between(scans, self._scan(is_first=False))
        if len(changed) < 2:
            return error
        return SourceChangedError(f"{error}. {len(changed):,} changes in all: {listed(changed)}")

    def _metadata(self) -> tuple[dict[str, Document], Folder]:
        """Gather the documents that describe the asset, and return what `metadata_dir` holds."""
        with self._events.during(Step.METADATA, "metadata are gathered") as figures:
            folder = None
            if self._config.metadata_dir is not None:
                place = Path(self._config.metadata_dir)
                roots, leaves_out = self._source_roots(), self._leaves_broken_links_out
                folder = read_folder(
                    place,
                    self._drive,
                    roots,
                    self._exclude,
                    leaves_out,
                    self._settings.generation,
                )
                if folder is None:
                    self._events.warn(f"metadata_dir {self._config.metadata_dir} does not exist")
            with open_lab(self._settings) as lab:
                gathered = gather(self._facts(), folder, lab, self._config.metadata_dir_force)
            for warning in gathered.warnings:
                self._events.warn(warning)
            for document in gathered.documents.values():
                key = f"{self._prefix}/{document.file_name}"
                problem = key_problem(key, self._store.key_limit)
                if problem:
                    raise MetadataError(f"{shown(document.source)}: {problem}")
            found = {d.file_name: d.status for d in gathered.documents.values()}
            figures["documents"] = provenance(gathered.documents, self._settings.generation)
            figures["message"] = ", ".join(f"{name} {status}" for name, status in found.items())
        return gathered.documents, folder or Folder()

    def _modalities(
        self, scans: Sequence[Scan], documents: dict[str, Document], folder: Folder
    ) -> Plan:
        """Decide for each modality what is sent."""
        parts: list[Sequence[Item]] = []
        compressions: list[Compression] = []
        links: Sample[dict[str, str]] = Sample()
        for config, found in zip(self._config.modalities, scans):
            name = found.tree.folder
            with self._events.during(Step.MODALITY, f"{name} is planned") as figures:
                transform, planned = plan_modality(
                    found,
                    config.modality.abbreviation,
                    bool(config.compress_raw_data),
                    links,
                    config.extra_configs,
                    self._settings.transforms,
                )
                limit = self._store.key_limit
                preflight.check_keys(transform.name, planned.items, self._prefix, name, limit)
                for warning in planned.warnings:
                    self._events.warn(warning)
                is_plain = isinstance(planned.items, FileItems)
                zipped = transform.name == "zip" and not is_plain
                figures.update(files=len(found.files), bytes=found.size, zip=zipped)
                how = Uncompressed.label if is_plain else transform.label
                figures["message"] = f"{name}: {how}"
                parts.append(planned.items)
                if planned.notes:
                    done = Compression(planned.notes, planned.parameters, planned.items)
                    compressions.append(done)
        excluded = Sample(f"metadata_dir/{shown(name)}" for name in folder.excluded)
        for found, part in zip(scans, parts):
            excluded.add(found.excluded)
            if isinstance(part, FileItems):
                links.add(links_of(found))
        names = {document.file_name for document in documents.values()}
        plan = Plan(
            self._prefix,
            self._location,
            Series(parts),
            sorted(names | {"processing.json", RECORD_NAME}),
            Sample(shown(name) for found in scans for name in found.empty_folders),
            Sample(shown(name) for found in scans for name in found.left_out),
            excluded,
            links,
            Sample([*_broken_links(scans), *folder.broken_links]),
            compressions,
        )
        plan.check(self._store.object_limit)
        return plan

    def _show(self, plan: Plan) -> Outcome:
        """Print the plan of a dry run."""
        settings = self._settings
        limits = settings.upload_connections, settings.upload_memory, settings.upload_bandwidth
        expected = estimate(plan, *limits)
        if self._plan_as_json:
            lines = iter([json.dumps({**plan.as_json(), "estimate": expected.as_json()})])
        else:
            lines = itertools.chain(plan.lines(), expected.lines())
        for line in lines:
            print(line, file=self._output or sys.stdout)
        outcome = Outcome(self._location, plan.files_total, plan.bytes_total, self._seconds())
        self._tell_end(outcome, "dry run: nothing was changed", dry_run=True)
        return outcome

    @property
    def _asset_state_dir(self) -> Path:
        """Where this machine keeps what it knows of this asset's transfer."""
        return self._settings.state_dir / str(self._config.s3_bucket) / self._prefix

    def _claim(self, state: AssetState) -> AbstractContextManager[Claim]:
        """Take the right to write the asset."""
        return claim_asset(
            self._store,
            self._prefix,
            self._asset_state_dir,
            state,
            self._config.force_cloud_sync,
            self._settings.job_id,
            self._now,
            self._events.wait_for_lease,
            self._timing,
        )

    def _transfer(self, plan: Plan, documents: dict[str, Document], claim: Claim) -> Arrivals:
        """Send what is not there yet: the data, then the documents."""
        with self._events.during(Step.TRANSFER, f"data travel to {self._location}") as figures:
            arrivals = Arrivals(plan.items, claim.journal)
            sent = self._delivery.send_rest(plan, arrivals, claim)
            started, ended = (t.astimezone(self._zone) for t in (claim.started, self._now()))
            documents = self._with_earlier(documents, started, claim)
            papers = complete(self._config, self._facts(), plan, documents, started, ended)
            arrivals.describe(self._send_documents(papers.values(), claim))
            figures.update(
                documents=provenance(papers, self._settings.generation),
                message=f"{plan.files_total:,} files have arrived"
                + (f", {sent.earlier:,} objects of them earlier" if sent.earlier else ""),
                files=plan.files_total,
                bytes=plan.bytes_total,
                files_sent=sent.files,
                bytes_sent=sent.bytes,
            )
        return arrivals

    def _with_earlier(
        self, documents: dict[str, Document], started: datetime, claim: Claim
    ) -> dict[str, Document]:
        """Add what the asset says of earlier uploads into it, where nothing else was given."""
        if not claim.keep_others or "processing" in documents:
            return documents
        try:
            earlier = earlier_processing(self._store, self._prefix, started)
        except MetadataError as error:
            self._events.warn(f"replaced, for it cannot be gone on with: {error}")
            return documents
        return documents if earlier is None else {**documents, "processing": earlier}

    def _send_documents(self, documents: Iterable[Document], claim: Claim) -> list[Entry]:
        """Send documents, several at once."""
        send = partial(self._send_document, claim)
        with Pool(_DOCUMENTS_AT_ONCE, "documents") as pool:
            sent = [pool.submit(send, document) for document in documents]
            pool.join()  # what arrives is noted, too, where another one does not
        return [answer.result() for answer in sent]

    def _send_document(self, claim: Claim, document: Document) -> Entry:
        """Send one document, and note it, so that `clean` knows it as ours."""
        name, data = document.file_name, document.data
        etag = self._store.put(f"{self._prefix}/{name}", data, halt=self._halt)
        digest = hashlib.sha256(data).hexdigest()
        now = utc(int(self._now().timestamp() * 1e9))
        entry = Entry(name, len(data), digest, now, etag, DOCUMENT)
        claim.journal.add(entry)
        return entry

    def _publish(
        self,
        plan: Plan,
        arrivals: Arrivals,
        kept: Kept,
        claim: Claim,
    ) -> Outcome:
        """Put the manifest beside the asset, and call it done."""
        size = arrivals.size + sum(entry.size for entry in kept.entries)
        files = len(arrivals) + len(kept.entries)
        header = {
            "manifest": 1,
            "asset": self._prefix,
            "location": self._location,
            "acq_datetime": self._facts().acquired.isoformat(),
            "job_id": self._settings.job_id,
            "fence": claim.lease.fence,
            "software": f"{SOFTWARE} {__version__}",
            "started": claim.started.isoformat(),
            "verified": self._now().isoformat(),
            "proof": READ_BACK if self._store.proves_by_reading else CHECKSUMS,
            "files": files,
            "bytes": size,
            **plan.empty_folders.fields("empty_folders"),
            **plan.left_out.fields("left_out"),
            **plan.excluded.fields("excluded"),
            **plan.links.fields("links"),
            **plan.broken_links.fields("broken_links"),
            **kept.left.fields(),
        }
        claim.lease.renew()
        entries = sorted(kept.entries, key=attrgetter("path"))
        self._write_manifest(header, arrivals, entries)
        self._on_proven()
        self._release(claim)
        return self._finish(files, size, claim.started)

    def _write_manifest(
        self, header: dict[str, object], arrivals: Arrivals, kept: list[Entry]
    ) -> None:
        """Write the manifest, whose acceptance by the store publishes the asset.

        The main thread is not interrupted meanwhile, because it could not tell then whether the
        store had accepted the manifest.
        """
        self._halt.check()
        self._on_publish()
        work = partial(write_manifest, self._store, self._prefix, header, arrivals, kept)
        try:
            self._halt.bounded(work, "manifest", _PUBLISH_GRACE)
        except TimeoutError:
            self._halt.check()
            raise

    def _release(self, claim: Claim) -> None:
        """Remove the records of the transfer; the asset is verified, whatever comes of it."""
        work = partial(release, self._store, self._prefix, claim)
        try:
            self._halt.bounded(work, "release", _RELEASE_GRACE)
        except (UploadError, RuntimeError) as error:  # the latter where no thread can be started
            self._events.warn(f"the records of this transfer could not be removed: {error}")
        except TimeoutError:
            self._events.warn(
                f"the records of this transfer beside {self._location} could not be removed before "
                "the job had to end; the asset is complete and verified"
            )

    def _published_before(self) -> Outcome | None:
        """Do what comes after publishing, where this very job published the asset.

        It was queued again then, because its machine died before it could say that it had ended.
        """
        job_id = self._settings.job_id
        if not job_id or self._settings.upload_shard or self._config.dry_run:
            return None
        try:
            if not (self._store.header(self._prefix) and self._store.is_published(self._prefix)):
                return None  # its manifest is not proven yet
            header = Manifest(self._store, self._prefix).header
        except DestinationError:  # another job's, or damaged: the asset exists
            return None
        if header.get("job_id") != job_id or "started" not in header:
            return None
        self._on_proven()
        try:
            remove_lease(self._store, self._prefix)
        except UploadError as error:
            self._events.warn(f"the lease of the transfer could not be removed: {error}")
        started = datetime.fromisoformat(header["started"])
        return self._finish(header["files"], header["bytes"], started)

    def _finish(self, files: int, size: int, started: datetime) -> Outcome:
        """Tell those who wait for the asset, and say that it is done."""
        record = f"{self._prefix}/{RECORD_NAME}"
        self._afterwards.run(lambda: self._store.get(record), started)
        outcome = Outcome(self._location, files, size, self._seconds())
        self._tell_end(outcome, f"{self._location} is complete and verified")
        return outcome

    def _facts(self) -> Facts:
        """Say what the request says of the asset."""
        return facts_of(self._config, self._location, self._zone, self._settings.generation)

    def _tell_end(self, outcome: Outcome, message: str, **more: bool) -> None:
        """Tell that the job has ended well."""
        self._events.step = Step.DONE
        self._events.emit(
            Kind.END,
            message,
            files=outcome.files,
            bytes=outcome.bytes,
            seconds=outcome.seconds,
            location=outcome.location,
            **more,
        )

    def _seconds(self) -> float:
        """Tell how long the job has been running."""
        return round(time.monotonic() - self._began, 3)
