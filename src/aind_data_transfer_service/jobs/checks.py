"""What is asked of the world before a job is accepted.

Sources, destination, jobs in flight, subject and project: each distinct value is asked about once,
all at the same time, and nobody waits longer than `check_timeout`. What is wrong is an error; what
could not be found out is a warning, and the job itself finds out.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.exc import SQLAlchemyError

from aind_data_transfer_service.jobs.check_analysis import capsule_warnings
from aind_data_transfer_service.jobs.findings import LATE, CheckResult, Labelled, ToCheck, said
from aind_data_transfer_service.jobs.known import Known
from aind_data_transfer_service.jobs.store import JobStore
from aind_data_transfer_service.jobs.submission import asset_location
from aind_data_transfer_service.jobs.workers import Workers
from aind_data_transfer_service.settings.hpc import HpcSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.upload.store import AssetState, S3Keys, open_store

_CHECKS_AT_ONCE = 20  # threads of their own: a slow drive must not hold up the pages


class _Forbidden(str):
    """What is wrong with a folder that no job may read."""


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
        self._buckets = Workers("check destination", 4)
        self._capsules = Workers("check analysis", 4)
        self._known = Known(settings)

    async def run(self, jobs: Sequence[Labelled]) -> CheckResult:
        """Check jobs. Bare scripts have nothing to check."""
        labelled = [ToCheck(job.label, job.config) for job in jobs if job.config is not None]
        result = CheckResult()
        known = self._check_buckets(labelled, result)
        if known:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._pool, self._check_repeated, known, result)
            checks = (
                self._check_sources,
                self._check_destinations,
                self._check_in_flight,
                self._known.subjects,
                self._known.projects,
                self._check_capsules,
            )
            parts = [loop.run_in_executor(self._pool, check, known) for check in checks]
            for part in await asyncio.gather(*parts):
                result.add(part)
        return result.in_order(job.label for job in labelled)

    def close(self) -> None:
        """Let go of connections."""
        self._pool.shutdown(wait=False)
        self._known.close()

    def _check_buckets(self, jobs: Sequence[ToCheck], result: CheckResult) -> list[ToCheck]:
        """Report jobs that have no bucket, and return the others."""
        for job in jobs:
            if self._settings.bucket_for(job.config.s3_bucket) is None:
                result.errors[job.label].append(
                    f"{job.label}, s3_bucket: missing; name the bucket to upload to (this service "
                    "has no DEFAULT_S3_BUCKET)"
                )
        return [job for job in jobs if job.label not in result.errors]

    def _check_sources(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """See that source folders exist and can be read, where the service can see them."""
        result = CheckResult()
        deadline = time.monotonic() + self._settings.check_timeout
        roots = self._visible_roots()
        places = list(_source_places(jobs))
        asked = dict.fromkeys(
            path for _, _, path, _ in places if not self._roots or _root_of(path, roots)
        )
        look = self._look(deadline - time.monotonic())
        seen = self._folders.ask(look, asked, max(0.1, deadline - time.monotonic()))
        for label, place, path, is_needed in places:
            problem, is_certain = self._judge_source(path, roots, seen)
            if problem:
                certain = is_certain and (is_needed or isinstance(problem, _Forbidden))
                found = result.errors if certain else result.warnings
                found[label].append(f"{label}, {place}: {problem}")
        return result

    def _look(self, patience: float) -> Callable[[str], str]:
        """Make the question about a source; where roots are strict, links are followed, too."""
        if not self._settings.source_roots_strict:
            return look_at_source
        real = self._folders.ask(os.path.realpath, self._roots, max(0.1, patience))
        allowed = [*self._roots, *(str(found) for found in real.values())]

        def look(path: str) -> str:
            problem = look_at_source(path)
            if problem or _root_of(found := os.path.realpath(path), allowed):
                return problem
            return _Forbidden(f"{path} leads to {found}, which {self._beneath_none()}")

        return look

    def _beneath_none(self) -> str:
        """Say that a folder is none that jobs may read."""
        return f"is beneath none of the folders that may be uploaded ({', '.join(self._roots)})"

    def _judge_source(
        self, path: str, roots: Mapping[str, bool], seen: Mapping[str, object]
    ) -> tuple[str, bool]:
        """Say what is wrong with a source, and whether that is certain."""
        root = _root_of(path, roots)
        if self._roots and root is None:
            if self._settings.source_roots_strict:
                return _Forbidden(f"{path} {self._beneath_none()}"), True
            return (
                f"{path} is not visible from here; only the job can tell whether it exists",
                False,
            )
        if path not in seen:
            return f"{path} could not be checked: its drive {LATE}", False
        problem = seen[path]
        if not problem:
            return "", False
        if root is None:
            return f"{problem} as seen from here; only the job can tell", False
        if not roots[root]:
            return f"{path} could not be checked: {root} is not to be seen from here now", False
        return problem if isinstance(problem, _Forbidden) else str(problem), True

    def _visible_roots(self) -> dict[str, bool]:
        """Tell which of the `SOURCE_ROOTS` are there at this moment."""
        seen = self._folders.ask(look_at_source, self._roots, self._settings.check_timeout)
        return {root: seen.get(root) == "" for root in self._roots}

    def _check_destinations(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """See that nothing lies at the destination under the names of the assets."""
        result = CheckResult()
        by_bucket: dict[str, dict[str, list[ToCheck]]] = defaultdict(lambda: defaultdict(list))
        for job in jobs:
            if not job.config.force_cloud_sync:
                bucket = self._settings.bucket_for(job.config.s3_bucket) or ""
                by_bucket[bucket][job.config.s3_prefix].append(job)

        def states(bucket: str) -> dict[str, AssetState]:
            settings = self._settings
            store = open_store(
                settings.destination_root,
                bucket,
                settings.s3_endpoint_url,
                quick=True,
                keys=job_keys(settings.hpc_for(bucket)),
            )
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
            result.errors[job.label].append(
                f"{job.label}: {location} exists already; correct the platform, subject_id or "
                "acq_datetime, or set force_cloud_sync to upload into it"
            )

    def _check_repeated(self, jobs: Sequence[ToCheck], result: CheckResult) -> None:
        """See that no two jobs bring the same asset, whether or not they name its bucket."""
        first: dict[str, str] = {}
        for job in jobs:
            location = asset_location(self._settings, job.config)
            other = first.setdefault(location, job.label)
            if other != job.label:
                result.errors[job.label].append(
                    f"{job.label}: the same asset as {other} ({location})"
                )

    def _check_in_flight(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """See that no job is bringing the same asset at this moment."""
        result = CheckResult()
        places = {job.label: asset_location(self._settings, job.config) for job in jobs}
        try:
            found = self._store.in_flight(places.values())
        except SQLAlchemyError:
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


def look_at_source(path: str) -> str:
    """Say what is wrong with a folder or file; empty where it can be read."""
    try:
        is_folder = os.path.isdir(path)
        if not is_folder:
            os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return f"{path} does not exist"
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if not os.access(path, os.R_OK | os.X_OK if is_folder else os.R_OK):
        return f"{path} cannot be read by the service"
    return ""


def in_flight_error(label: str, location: str, job_id: str) -> str:
    """Say that another job is bringing the same asset."""
    return (
        f"{label}: job {job_id} is bringing {location} at this moment; "
        "wait for its end, or cancel it"
    )


def _source_places(jobs: Sequence[ToCheck]) -> Iterable[tuple[str, str, str, bool]]:
    """List label, place, path, and whether the job fails without it, of all that jobs will read."""
    for job in jobs:
        is_row = job.label.startswith("row ")
        for number, modality in enumerate(job.config.modalities):
            place = f"modality{number}.source" if is_row else f"modalities.{number}.source"
            yield job.label, place, str(modality.source), True
        if job.config.metadata_dir is not None:
            yield job.label, "metadata_dir", str(job.config.metadata_dir), False


def _root_of(path: str, roots: Iterable[str]) -> str | None:
    """Find the root that a path lies beneath."""
    for root in roots:
        if path == root or path.startswith(root.rstrip("/") + "/"):
            return root
    return None


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
