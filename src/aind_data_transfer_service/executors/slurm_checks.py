"""What can be known of a job before it is sent to Slurm: whether this cluster can be asked so."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import JobSpec, Unfit
from aind_data_transfer_service.executors.slurm_properties import site_defaults
from aind_data_transfer_service.hpc.client import SlurmClient
from aind_data_transfer_service.hpc.dialects import NEWEST, OLDEST, Dialect
from aind_data_transfer_service.hpc.properties import read_properties
from aind_data_transfer_service.settings.hpc import HpcSettings

LONGEST_SCRIPT = 4 * 1024**2
"""Bytes of a batch script that Slurm takes, unless `max_script_size` says otherwise."""
_FRAME = 16 * 1024
"""More bytes than the batch script has around what is embedded in it."""
_KNOWN_SECONDS = 60.0
_NAMED = 10
_DIALECTS = tuple(Dialect(version) for version in range(OLDEST, NEWEST + 1))


class JobChecks:
    """Checks jobs against the API version and the partitions of a cluster.

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
        self._partitions: list[str] = []
        self._partitions_due = 0.0

    async def check(self, specs: Sequence[JobSpec], seconds: float) -> Unfit:
        """Check jobs, all at once; jobs with the same settings are checked once."""
        dialect, trouble = await self._ask_dialect(seconds)
        if dialect is not None:
            await self._ask_partitions(seconds)
        known: dict[str, tuple[list[str], list[str]]] = {}
        errors: dict[str, list[str]] = {}
        warnings: dict[str, list[str]] = {}
        for spec in specs:
            key = json.dumps(dict(spec.settings), sort_keys=True, default=str)
            if key not in known:
                known[key] = self._check_settings(spec, dialect, trouble)
            wrong, unknown = known[key]
            if found := [*wrong, *_script_errors(spec)]:
                errors[spec.job_id] = found
            if unknown:
                warnings[spec.job_id] = unknown
        return Unfit(errors, warnings)

    async def _ask_dialect(self, seconds: float) -> tuple[Dialect | None, str]:
        """Find out which API version the cluster speaks, or why that is not known now."""
        try:
            async with asyncio.timeout(seconds):
                return await self._client.dialect(), ""
        except TimeoutError:
            return None, f"no answer for {seconds:g} s"
        except ExecutorError as error:
            return None, str(error)

    async def _ask_partitions(self, seconds: float) -> None:
        """Learn the names of the partitions, if the cluster tells them; not every time."""
        now = self._clock()
        if now < self._partitions_due:
            return
        self._partitions_due = now + _KNOWN_SECONDS
        try:
            async with asyncio.timeout(seconds):
                self._partitions = await self._client.partitions()
        except (TimeoutError, ExecutorError):  # Slurm itself refuses what it does not have
            self._partitions = []

    def _check_settings(
        self, spec: JobSpec, dialect: Dialect | None, trouble: str
    ) -> tuple[list[str], list[str]]:
        """Find what is wrong with a job's settings, and what cannot be checked now."""
        asked, _ = read_properties(spec.settings)  # what is wrong with these is known
        wrong, unsure = [], []
        defaults = site_defaults(asked, self._hpc)
        for place, properties in (("hpc_settings", asked), ("HPC_JOB_DEFAULTS", defaults)):
            if dialect is not None:
                wrong += [f"{place}.{text}" for text in dialect.problems(properties)]
                continue
            unsure += [
                f"{place}.{name}: could not be checked against the cluster's API version "
                f"({trouble}); the job fails if that version cannot express it"
                for name, value in properties.items()
                if any(one.problems({name: value}) for one in _DIALECTS)
            ]
        if dialect is not None:
            wrong += self._partition_errors(asked, defaults)
        return wrong, unsure

    def _partition_errors(self, asked: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
        """Find partitions that the cluster does not have."""
        sites = "HPC_PARTITION" if self._hpc.partition else "HPC_JOB_DEFAULTS.partition"
        place = "hpc_settings.partition" if "partition" in asked else sites
        names = [name.strip() for name in (asked | defaults).get("partition", "").split(",")]
        missing = [name for name in names if name and name not in self._partitions]
        if not missing or not self._partitions:
            return []
        listed = ", ".join(sorted(self._partitions)[:_NAMED])
        more = ", …" if len(self._partitions) > _NAMED else ""
        return [
            f'{place}: "{name}" is not a partition of this cluster; use one of {listed}{more}'
            for name in missing
        ]


def _script_errors(spec: JobSpec) -> list[str]:
    """Find a script, or a request, that is too long for Slurm."""
    text = spec.script or spec.request
    most = (LONGEST_SCRIPT - _FRAME) * 3 // 4 * 76 // 77  # in base64, in lines
    if len(text) * 4 <= most or (size := len(text.encode("utf-8", "replace"))) <= most:
        return []
    what = "script" if spec.script else "upload_job_settings"
    return [f"{what}: {size:,} bytes; a job on the cluster can have at most {most:,}"]
