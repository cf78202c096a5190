"""What is asked of the world before a job is accepted.

Sources, destination, jobs in flight, subject and project: each distinct value is asked about once,
all at the same time, and nobody waits longer than `check_timeout`. What is wrong is an error; what
could not be found out is a warning, and the job itself finds out.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from aind_data_transfer_service.concurrency.deadline_pool import Workers
from aind_data_transfer_service.configs.validators import bucket_problem
from aind_data_transfer_service.errors import SourceError, StoreUnavailable
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.jobs.validation.code_ocean_checks import capsule_warnings
from aind_data_transfer_service.jobs.validation.link_checks import find_broken_links
from aind_data_transfer_service.jobs.validation.metadata_checks import Known
from aind_data_transfer_service.jobs.validation.requests import (
    asset_location,
    asset_locations,
)
from aind_data_transfer_service.jobs.validation.results import (
    LATE,
    CheckResult,
    Labelled,
    SourcePlace,
    ToCheck,
    said,
)
from aind_data_transfer_service.metadata.terms import missing_terms
from aind_data_transfer_service.plain_text import show
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.source_paths.roots import SourceRoots, contained_keys, keys_problem
from aind_data_transfer_service.source_paths.similar import similar_hint
from aind_data_transfer_service.storage.base import AssetState, AssetStore
from aind_data_transfer_service.storage.model import S3Keys
from aind_data_transfer_service.storage.open import open_store

_CHECKS_AT_ONCE = 20  # threads of their own: a slow drive must not hold up the pages


_MISSING = " does not exist"

_UTC = frozenset({"UTC", "UCT", "GMT", "GMT0", "GMT+0", "GMT-0", "Universal", "Zulu", "Greenwich"})
"""Last parts of the names of zones that a container has if nobody set its own."""


@dataclass(frozen=True, slots=True)
class _Finding:
    """What is wrong with a source, if anything is."""

    text: str = ""
    is_certain: bool = True
    """Whether the job would find the same."""
    is_refusal: bool = False
    """Whether it may not be read, rather than that it cannot."""


@dataclass(frozen=True, slots=True)
class _Root:
    """One of the `SOURCE_ROOTS`, as it is on this machine."""

    real: str
    """Where it really is."""
    is_visible: bool
    """Whether it is there and can be read."""


class Checks:
    """Asks the world about jobs.

    Parameters
    ----------
    settings : ServiceSettings
        Where to ask, and how patiently.
    store : JobStore
        Knows which jobs are in flight.
    """

    def __init__(self, settings: ServiceSettings, store: JobStore):
        self._settings = settings
        self._store = store
        self._roots = [os.path.normpath(root) for root in settings.source_roots]
        self._pool = ThreadPoolExecutor(_CHECKS_AT_ONCE, "checks")
        self._folders = Workers("check folders", 8)
        self._links = Workers("check links", 4)
        self._buckets = Workers("check destination", 4)
        self._capsules = Workers("check analysis", 4)
        self._known = Known(settings)

    async def run(self, jobs: Sequence[Labelled]) -> CheckResult:
        """Check jobs. Bare scripts have nothing to check."""
        labelled = [ToCheck(job.label, job.config) for job in jobs if job.config is not None]
        result = CheckResult()
        if labelled and (text := _zone_warning(self._settings)):
            result.warnings[labelled[0].label].append(text)
        loop = asyncio.get_running_loop()
        known = await loop.run_in_executor(self._pool, self._check_buckets, labelled, result)
        if known:
            places = await loop.run_in_executor(self._pool, self._places, known)
            await loop.run_in_executor(self._pool, self._check_repeated, places, result)
            await loop.run_in_executor(self._pool, self._check_terms, known, result)
            checks = (
                self._check_sources,
                self._check_destinations,
                self._known.subjects,
                self._known.projects,
                self._check_capsules,
            )
            parts = [loop.run_in_executor(self._pool, check, known) for check in checks]
            for part in await asyncio.gather(self._check_in_flight(places), *parts):
                result.add(part)
        return result.in_order(job.label for job in labelled)

    def close(self) -> None:
        """Let go of connections and threads."""
        self._pool.shutdown(wait=False)
        for workers in (self._folders, self._links, self._buckets, self._capsules):
            workers.close()
        self._known.close()

    def _check_buckets(self, jobs: Sequence[ToCheck], result: CheckResult) -> list[ToCheck]:
        """Report jobs that have no bucket, or one that is not allowed, and return the others."""
        of_settings = self._settings.bucket_for(None)
        for job in jobs:
            bucket = job.config.s3_bucket or of_settings
            if bucket is not None:
                problem = bucket_problem(bucket, self._settings.allowed_buckets)
                default = "" if job.config.s3_bucket else "no bucket is named, and the default "
                if problem:
                    text = f"{job.label}, s3_bucket: {default}{problem}"
                    result.errors[job.label].append(text)
            else:
                result.errors[job.label].append(
                    f"{job.label}, s3_bucket: missing; name the bucket to upload to (this service "
                    "has no DEFAULT_S3_BUCKET)"
                )
        return [job for job in jobs if job.label not in result.errors]

    def _check_sources(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """Check that sources may be uploaded, exist and can be read, as far as can be seen here."""
        result = CheckResult()
        settings = self._settings
        deadline = time.monotonic() + settings.check_timeout
        seen_roots = self._folders.ask(_look_at_root, self._roots, settings.check_timeout)
        known = {root: seen for root, seen in seen_roots.items() if isinstance(seen, _Root)}
        real_roots = [known[root].real if root in known else root for root in self._roots]
        roots = SourceRoots(self._roots, settings.private_paths, real_roots)
        visible = {root for root, seen in known.items() if seen.is_visible}
        places = list(_source_places(jobs))
        names = {one.path: roots.name_problem(one.path) for one in places}
        asked = [path for path, problem in names.items() if not problem]
        patience = max(0.1, deadline - time.monotonic())
        seen: dict[str, object] = dict(self._folders.ask(partial(_look, roots), asked, patience))
        seen |= {path: _Finding(text, is_refusal=True) for path, text in names.items() if text}
        for label, place, path, is_needed in places:
            finding = _judge_source(path, roots, visible, seen)
            if finding.text:
                is_error = finding.is_certain and (is_needed or finding.is_refusal)
                found = result.errors if is_error else result.warnings
                found[label].append(f"{label}, {place}: {finding.text}")
        good = {path for path, found in seen.items() if found == _Finding()}
        sources = [one for one in places if one.is_needed and one.path in good]
        seen_here = [*visible, *(known[root].real for root in visible)]
        result.add(find_broken_links(sources, roots, seen_here, settings, self._links, deadline))
        return result

    def _check_destinations(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """See that nothing lies at the destination under the names of the assets."""
        result = CheckResult()
        by_bucket: dict[str, dict[str, list[ToCheck]]] = defaultdict(lambda: defaultdict(list))
        of_settings = self._settings.bucket_for(None) or ""
        for job in jobs:
            if not job.config.force_cloud_sync:
                bucket = job.config.s3_bucket or of_settings
                by_bucket[bucket][job.config.s3_prefix].append(job)

        def states(bucket: str) -> dict[str, AssetState]:
            store = open_destination(self._settings, self._settings.destination_root, bucket)
            return store.asset_states(list(by_bucket[bucket]))

        answers = self._buckets.ask(states, by_bucket, self._settings.check_timeout)
        for bucket, prefixes in by_bucket.items():
            answer = answers.get(bucket, LATE)
            for prefix, holders in prefixes.items():
                for job in holders:
                    self._judge_destination(job, bucket, answer, result)
        return result

    def _judge_destination(
        self, job: ToCheck, bucket: str, answer: object, result: CheckResult
    ) -> None:
        """Say what is at the destination of one job."""
        if not isinstance(answer, dict):
            why = f"bucket {bucket} {LATE}" if answer is LATE else said(answer)
            result.warnings[job.label].append(
                f"{job.label}: it could not be checked whether the asset exists already: {why}"
            )
        elif answer.get(job.config.s3_prefix) is AssetState.PRESENT:
            location = asset_location(self._settings, job.config)
            has_platform = not job.config.s3_prefix.startswith(f"{job.config.subject_id}_")
            parts = "platform, subject_id" if has_platform else "subject_id"
            result.errors[job.label].append(
                f"{job.label}: {location} exists already; correct the {parts} or acq_datetime, or "
                "set force_cloud_sync to upload into it"
            )

    def _places(self, jobs: Sequence[ToCheck]) -> dict[str, str]:
        """Return where the asset of each job goes, by the job's label."""
        locations = asset_locations(self._settings, (job.config for job in jobs))
        return {job.label: location for job, location in zip(jobs, locations, strict=True)}

    def _check_repeated(self, places: Mapping[str, str], result: CheckResult) -> None:
        """See that no two jobs bring the same asset, whether or not they name its bucket."""
        first: dict[str, str] = {}
        for label, location in places.items():
            other = first.setdefault(location, label)
            if other != label:
                result.errors[label].append(f"{label}: the same asset as {other} ({location})")

    def _check_terms(self, jobs: Sequence[ToCheck], result: CheckResult) -> None:
        """Warn of platforms and modalities that the chosen generation of the schema lacks."""
        generation = self._settings.generation
        for job in jobs:
            modalities = [str(one.modality) for one in job.config.modalities]
            missing = missing_terms(generation, str(job.config.platform), modalities)
            if missing:
                unless = " unless metadata_dir has a valid one" if job.config.metadata_dir else ""
                result.warnings[job.label].append(
                    f"{job.label}: generation {generation} of the schema (METADATA_SCHEMA) has no "
                    f"{' and no '.join(missing)}; data_description.json will be invalid{unless}"
                )

    async def _check_in_flight(self, places: Mapping[str, str]) -> CheckResult:
        """See that no job is bringing the same asset at this moment."""
        result = CheckResult()
        try:
            found = await self._store.in_thread(
                self._store.in_flight, places.values(), seconds=self._settings.check_timeout
            )
        except (SQLAlchemyError, StoreUnavailable):
            for label in places:
                result.warnings[label].append(
                    f"{label}: it could not be checked whether another job is bringing the asset: "
                    "the store of jobs does not answer"
                )
            return result
        for label, place in places.items():
            if place in found:
                result.errors[label].append(in_flight_error(label, place, found[place]))
        return result

    def _check_capsules(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """See that what is to run on the assets is there; never an error, the data come first."""
        wanted = {job.label: job.config.process_capsule_id or "" for job in jobs}
        wanted = {label: capsule_id for label, capsule_id in wanted.items() if capsule_id}
        found = capsule_warnings(wanted, self._settings, self._capsules)
        result = CheckResult()
        for label, text in found.items():
            result.warnings[label].append(text)
        return result


def _zone_warning(settings: ServiceSettings) -> str | None:
    """Return a warning where the lab's time zone is a guess that is probably wrong."""
    zone = settings.lab_timezone
    if "lab_timezone" in settings.model_fields_set or zone.rpartition("/")[2] not in _UTC:
        return None
    return (
        f"acq_datetime: assets are named by the clock of {zone}, the time zone of the service's "
        "machine, and times without an offset are read as such; if the lab's clock is another, "
        "have LAB_TIMEZONE set"
    )


def _judge_source(
    path: str, roots: SourceRoots, visible: Collection[str], seen: Mapping[str, object]
) -> _Finding:
    """Decide what is wrong with a source.

    Parameters
    ----------
    path : str
        The source.
    roots : SourceRoots
        The folders that may be uploaded.
    visible : Collection of str
        Those that are there.
    seen : Mapping
        What was found out about each source in time.
    """
    root = roots.root_of(path)
    found = seen.get(path, LATE)
    if not isinstance(found, _Finding):
        why = f"its drive {LATE}" if found is LATE else said(found)
        return _Finding(f"{path} could not be checked: {why}", is_certain=False)
    if found.is_refusal or not found.text:
        return found
    if root is None:
        text = f"{found.text} as seen from here; only the job can tell"
        return _Finding(text, is_certain=False)
    if root not in visible:
        text = f"{path} could not be checked: {root} is not to be seen from here now"
        return _Finding(text, is_certain=False)
    return found


def _look_at_root(path: str) -> _Root:
    """Find out whether a root is there, and where it really is."""
    return _Root(os.path.realpath(path), look_at_source(path) == "")


def _look(roots: SourceRoots, path: str) -> _Finding:
    """Find out whether a source may be read, and then whether it can be."""
    try:
        real = roots.resolve(path)
    except SourceError as error:
        return _Finding(str(error), is_refusal=True)
    if keys := contained_keys(real):
        return _Finding(keys_problem(keys), is_refusal=True)
    text = look_at_source(path)
    if text.endswith(_MISSING):
        text += similar_hint(path, lambda similar: not roots.problem(similar))
    return _Finding(text)


def look_at_source(path: str) -> str:
    """Say what is wrong with a folder or file; empty where it can be read."""
    try:
        is_folder = os.path.isdir(path)
        if not is_folder:
            os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"{show(path)}{_MISSING}"
    except OSError as error:
        return f"{show(path)} cannot be looked at: {error.strerror}"
    if not os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK):
        return f"{show(path)} cannot be read by the service"
    return ""


def in_flight_error(label: str, location: str, job_id: str) -> str:
    """Say that another job is bringing the same asset."""
    return (
        f"{label}: job {job_id} is bringing {location} at this moment; "
        "wait for its end, or cancel it"
    )


def _source_places(jobs: Sequence[ToCheck]) -> Iterable[SourcePlace]:
    """List all that jobs will read."""
    for job in jobs:
        is_row = job.label.startswith("row ")
        for number, modality in enumerate(job.config.modalities):
            place = f"modality{number}.source" if is_row else f"modalities.{number}.source"
            place = modality.former_field or place
            yield SourcePlace(job.label, place, str(modality.source), True)
            if isinstance(modality.extra_configs, str):
                place = place.replace(".source", ".extra_configs")
                yield SourcePlace(job.label, place, modality.extra_configs, False)
        if job.config.metadata_dir is not None:
            yield SourcePlace(job.label, "metadata_dir", str(job.config.metadata_dir), False)


def open_destination(settings: ServiceSettings, root: str, bucket: str) -> AssetStore:
    """Open a store for quick questions, with the keys that jobs bring.

    Parameters
    ----------
    settings : ServiceSettings
        The service's settings.
    root : str
        `s3://`, or the folder that holds the buckets.
    bucket : str
        The bucket.
    """
    keys = job_keys(settings.hpc_for(bucket))
    return open_store(root, bucket, settings.s3_endpoint_url, quick=True, keys=keys)


def job_keys(hpc: HpcSettings) -> S3Keys | None:
    """Look at the destination as the jobs on the cluster do; None where they bring no keys."""
    if not hpc.host or not hpc.aws_access_key_id or not hpc.aws_secret_access_key:
        return None
    session = hpc.aws_session_token
    return S3Keys(
        hpc.aws_access_key_id,
        hpc.aws_secret_access_key.get_secret_value(),
        session.get_secret_value() if session else None,
        hpc.aws_default_region,
    )
