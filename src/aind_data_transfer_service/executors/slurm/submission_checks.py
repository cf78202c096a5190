"""What can be known of a job before it is sent to Slurm: whether this cluster takes it."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import CappedLimits, JobSpec, Unfit
from aind_data_transfer_service.executors.slurm.bounded_memory import remember
from aind_data_transfer_service.executors.slurm.cluster import LONGEST_AGE, KnownLimits
from aind_data_transfer_service.executors.slurm.job_properties import site_defaults
from aind_data_transfer_service.executors.slurm.partition_limits import (
    CHECKED,
    ClusterLimits,
    LimitFindings,
    cap_limits,
    find_limits,
    takes_exclusive,
    takes_memory,
)
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.api_versions import NEWEST, OLDEST, Dialect
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.job_properties import read_properties
from aind_data_transfer_service.slurmrest.models import SlurmJob

logger = logging.getLogger(__name__)
T = TypeVar("T")

LONGEST_SCRIPT = 4 * 1024**2
"""Bytes of a batch script that Slurm takes, unless `max_script_size` says otherwise."""
_FRAME = 16 * 1024
"""More bytes than the batch script has around what is embedded in it."""
_DEFAULTS_SECONDS = 30.0
_SENDING_SECONDS = 5.0
"""For how long a job waits, before it is sent, for the cluster to tell its limits."""
_THREADS = 2
"""Ten thousand jobs with settings of their own take about half a second."""
_FRESH = 2.0
"""Seconds: no job is refused because of an older answer of the cluster about its limits."""
_DIALECTS = tuple(Dialect(version) for version in range(OLDEST, NEWEST + 1))


@dataclass(frozen=True)
class _Settings:
    """What a job asks of the cluster, and what the site adds."""

    asked: Mapping[str, Any]
    defaults: Mapping[str, Any]
    hpc: HpcSettings

    def place(self, name: str) -> str:
        """Return the setting that a property comes from."""
        if name in self.asked:
            return f"hpc_settings.{name}"
        if name not in self.hpc.default_properties:
            return "HPC_TRANSFER_MEMORY"
        is_variable = getattr(self.hpc, name, None) is not None
        return f"HPC_{name.upper()}" if is_variable else f"HPC_JOB_DEFAULTS.{name}"


class JobChecks:
    """Checks jobs against the API version, the partitions and the nodes of a cluster.

    Parameters
    ----------
    client : SlurmClient
        Who speaks to slurmrestd.
    hpc : HpcSettings
        What is known of the cluster.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(
        self,
        client: SlurmClient,
        hpc: HpcSettings,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._client = client
        self._hpc = hpc
        self._clock = clock
        self._limits = KnownLimits(client, clock)
        self._pool = Pool(_THREADS, "job checks")
        self._default_problems: tuple[str, ...] = ()
        self._look: asyncio.Task[None] | None = None
        self._look_due = float("-inf")
        self._sent_without: dict[str, frozenset[str]] = {}

    async def check(self, specs: Sequence[JobSpec], seconds: float) -> Unfit:
        """Check jobs, all at once; jobs with the same settings are checked once."""
        dialect, trouble = await self._ask_dialect(seconds)
        cluster = ClusterLimits()
        if dialect is not None:
            cluster = await self._limits.get(seconds)
        keys, settings = await self._run(self._read_all, specs, cluster)
        known = await self._run(self._check_dialects, settings, dialect, trouble)
        limits = await self._run(_find_all, settings, cluster)
        if any(found.errors for found in limits.values()) and self._limits.age > _FRESH:
            cluster = await self._limits.get(seconds, _FRESH)
            limits = await self._run(_find_all, settings, cluster)
        errors: dict[str, list[str]] = {}
        warnings: dict[str, list[str]] = {}
        for key, spec in zip(keys, specs):
            wrong, unknown = known[key]
            if found := [*wrong, *limits[key].errors, *_script_errors(spec)]:
                errors[spec.job_id] = found
            if unsure := [*unknown, *limits[key].warnings]:
                warnings[spec.job_id] = unsure
        return Unfit(errors, warnings)

    async def cap(
        self,
        limits: Mapping[str, int | None],
        settings: Mapping[str, Any],
        had: Mapping[str, int],
        seconds: float,
    ) -> CappedLimits:
        """Lower limits for a job with some settings to what its partitions allow."""
        asked, _ = read_properties(settings)
        properties = {**site_defaults(asked, self._hpc), **asked}
        return cap_limits(limits, properties, await self._limits.get(seconds), had)

    async def prepare(self) -> None:
        """Ask for what `fit` needs, so that jobs that are sent together do not wait in a row."""
        await self._limits.get(_SENDING_SECONDS)

    async def fit(self, hpc: HpcSettings, spec: JobSpec) -> HpcSettings:
        """Return settings by which a job asks for no defaults that the cluster would refuse.

        Default memory is asked for only if the job is known to get it: a job that was recorded
        before the service started may come before the first check. Memory that the administrator
        has set stays: `check` reports it where it does not fit. A shard asks for no node of its own
        where a partition limits the CPUs on a node.

        Parameters
        ----------
        hpc : HpcSettings
            The settings to fit.
        spec : JobSpec
            The job, whose partitions count.
        """
        cluster = await self._limits.get(_SENDING_SECONDS)
        asked, _ = read_properties(spec.settings)
        return _fitted(hpc, asked, cluster, is_known=cluster.are_nodes_told)

    def note_sent(self, spec: JobSpec, fitted: HpcSettings) -> None:
        """Note with which settings, those that `fit` returned, a job was sent."""
        asked, _ = read_properties(spec.settings)
        remember(self._sent_without, spec.job_id, self._names_left_out(asked, fitted))

    def left_out(
        self, job_id: str, settings: Mapping[str, Any], jobs: Sequence[SlurmJob]
    ) -> frozenset[str]:
        """Return which limits of the site a job was sent without.

        A job that another process sent has the memory that Slurm lists. What is known of the
        cluster now counts only if Slurm lists none.

        Parameters
        ----------
        job_id : str
            The job.
        settings : Mapping
            The settings that it states.
        jobs : Sequence[SlurmJob]
            The job as Slurm listed it last; empty if it did not.
        """
        if job_id in self._sent_without:
            return self._sent_without[job_id]
        asked, _ = read_properties(settings)
        if given := next(
            (job for job in jobs if job.memory_per_node_mb or job.memory_per_cpu_mb), None
        ):
            default = site_defaults(asked, self._hpc).get("memory_per_node")
            is_sent = default in (None, given.memory_per_node_mb)
            return frozenset() if is_sent else frozenset({"memory_per_node"})
        cluster = self._limits.latest
        fitted = _fitted(self._hpc, asked, cluster, is_known=cluster.are_nodes_told)
        return self._names_left_out(asked, fitted)

    def _names_left_out(self, asked: Mapping[str, Any], fitted: HpcSettings) -> frozenset[str]:
        """Return which defaults of the site are not among those of the fitted settings."""
        names = site_defaults(asked, self._hpc).keys() - site_defaults(asked, fitted).keys()
        return frozenset(names)

    def default_problems(self) -> tuple[str, ...]:
        """Return what is wrong with the site's defaults, as far as is known; never waits.

        The cluster is asked in the background, at most once a minute.
        """
        is_looking = self._look is not None and not self._look.done()
        if not is_looking and self._clock() >= self._look_due:
            self._look_due = self._clock() + LONGEST_AGE
            self._look = asyncio.create_task(self._look_at_defaults())
        return self._default_problems

    async def close(self) -> None:
        """Stop looking, and let the threads end."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
        self._pool.close()

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do something that takes long for many jobs in a thread that nothing else needs."""
        return await asyncio.wrap_future(self._pool.submit(work, *arguments))

    async def _look_at_defaults(self) -> None:
        """Check the defaults; a fault of the check itself is logged, and nothing depends on it."""
        try:
            await self._check_defaults()
        except Exception:
            logger.exception("slurm: the defaults of jobs could not be checked")

    async def _check_defaults(self) -> None:
        """Check a job that has nothing but the defaults, and log what is new."""
        dialect, _ = await self._ask_dialect(_DEFAULTS_SECONDS)
        if dialect is None:  # the cluster is away
            return
        unfit = await self.check([JobSpec("", "")], _DEFAULTS_SECONDS)
        found = (*unfit.errors.get("", ()), *unfit.warnings.get("", ()))
        for text in found:
            if text not in self._default_problems:
                logger.warning("slurm: jobs get a default that the cluster does not take: %s", text)
        self._default_problems = found

    async def _ask_dialect(self, seconds: float) -> tuple[Dialect | None, str]:
        """Find out which API version the cluster speaks, or why that is not known now."""
        try:
            async with asyncio.timeout(seconds):
                return await self._client.dialect(), ""
        except TimeoutError:
            return None, f"no answer for {seconds:g} s"
        except ExecutorError as error:
            return None, str(error)

    def _read_all(
        self, specs: Sequence[JobSpec], cluster: ClusterLimits
    ) -> tuple[list[str], dict[str, _Settings]]:
        """Read what jobs ask for: the key of each job, and the settings by key."""
        keys = [
            json.dumps([bool(spec.script), dict(spec.settings)], sort_keys=True, default=str)
            for spec in specs
        ]
        distinct = dict(zip(keys, specs))
        return keys, {key: self._settings(spec, cluster) for key, spec in distinct.items()}

    def _settings(self, spec: JobSpec, cluster: ClusterLimits) -> _Settings:
        """Read what a job asks for."""
        asked, _ = read_properties(spec.settings)  # what is wrong with these is known
        hpc = _fitted(self._hpc, asked, cluster)
        return _Settings(asked, site_defaults(asked, hpc, is_script=bool(spec.script)), hpc)

    def _check_dialects(
        self, settings: Mapping[str, _Settings], dialect: Dialect | None, trouble: str
    ) -> dict[str, tuple[list[str], list[str]]]:
        """Check all settings against the API version."""
        return {key: self._check_dialect(one, dialect, trouble) for key, one in settings.items()}

    @staticmethod
    def _check_dialect(
        settings: _Settings, dialect: Dialect | None, trouble: str
    ) -> tuple[list[str], list[str]]:
        """Find what the API version cannot express, and what cannot be checked now."""
        wrong, unsure = [], []
        for place, properties in (
            ("hpc_settings", settings.asked),
            ("HPC_JOB_DEFAULTS", settings.defaults),
        ):
            if dialect is not None:
                wrong += [f"{place}.{text}" for text in dialect.problems(properties)]
                continue
            unsure += [
                f"{place}.{name}: could not be checked against the cluster's API version "
                f"({trouble}); the job fails if that version cannot express it"
                for name, value in properties.items()
                if any(one.problems({name: value}) for one in _DIALECTS)
            ]
        return wrong, unsure


def _fitted(
    hpc: HpcSettings, asked: Mapping[str, Any], cluster: ClusterLimits, is_known: bool = True
) -> HpcSettings:
    """Return settings without default memory, and exclusive nodes, that a job may not get."""
    properties = {**site_defaults(asked, hpc), **asked}
    left_out: dict[str, Any] = {}
    is_default = "transfer_memory" not in hpc.model_fields_set
    takes = is_known and takes_memory(hpc.transfer_memory, properties, cluster)
    if is_default and not takes:
        left_out["transfer_memory"] = 0
    if not takes_exclusive(properties, cluster):
        left_out["shards_exclusive"] = False
    return hpc.model_copy(update=left_out) if left_out else hpc


def _find_all(
    settings: Mapping[str, _Settings], cluster: ClusterLimits
) -> dict[str, LimitFindings]:
    """Check all settings against what the cluster allows; those that ask for the same, once."""
    known: dict[str, LimitFindings] = {}
    found = {}
    for key, one in settings.items():
        parts = [
            {k: v for k, v in part.items() if k in CHECKED} for part in (one.asked, one.defaults)
        ]
        same = json.dumps(parts, sort_keys=True)
        if same not in known:
            known[same] = find_limits({**parts[1], **parts[0]}, one.place, cluster)
        found[key] = known[same]
    return found


def _script_errors(spec: JobSpec) -> list[str]:
    """Find a script, or a request, that is too long for Slurm."""
    text = spec.script or spec.request
    most = (LONGEST_SCRIPT - _FRAME) * 3 // 4 * 76 // 77  # in base64, in lines
    if len(text) * 4 <= most or (size := len(text.encode("utf-8", "replace"))) <= most:
        return []
    what = "script" if spec.script else "upload_job_settings"
    return [f"{what}: {size:,} bytes; a job on the cluster can have at most {most:,}"]
