"""Which executor runs the jobs: the one that `EXECUTOR` names, of those that are installed."""

from dataclasses import dataclass
from typing import Any

from aind_data_transfer_service.executors.base import Executor, Guard, JobSpec, unguarded
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.plugins import EXECUTORS
from aind_data_transfer_service.settings.env_policy import without_sources
from aind_data_transfer_service.settings.plugin_settings import settings_of
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.tokens import token_source


@dataclass(frozen=True)
class ExecutorContext:
    """What an executor is made with."""

    service: ServiceSettings
    """The settings of the service. Its `job_environment()` is the environment of a job on this
    machine, and its `agreed_environment()` what a job elsewhere gets besides its own."""
    settings: Any = None
    """The executor's own settings, of the class that it declares."""
    callbacks: Callbacks | None = None
    """How jobs elsewhere reach the service with their events."""
    guard: Guard = unguarded
    """Raises an error if this process may not start or cancel jobs now: call it before both."""

    def job_environment(self, spec: JobSpec) -> dict[str, str]:
        """Return the environment of a job on this machine, but for the places of its files.

        `UPLOAD_EVENTS_FILE` is where it writes its events, and if there is a file at
        `UPLOAD_CANCEL_FILE`, a SIGTERM is a cancellation.

        Parameters
        ----------
        spec : JobSpec
            The job.
        """
        environment = self.service.job_environment()
        if spec.script:
            return without_sources(environment) | {"JOB_ID": spec.job_id}
        recorded = {"UPLOAD_RECORDED": "true", "UPLOAD_ASSET": spec.name}
        return environment | {"JOB_ID": spec.job_id, **recorded}


def choose_executor(
    settings: ServiceSettings, callbacks: Callbacks | None = None, guard: Guard = unguarded
) -> Executor:
    """Make the executor of a service: this machine, unless another one is named.

    Parameters
    ----------
    settings : ServiceSettings
        What the administrator chose.
    callbacks : Callbacks, optional
        How the jobs reach the service with their events.
    guard : Callable
        Raises an error if this process may not start or cancel jobs.

    Raises
    ------
    PluginError
        If the executor is not installed, or cannot be used.
    """
    name = settings.executor_name
    own = settings_of(settings.executors, name)
    context = ExecutorContext(settings, own, callbacks, guard)
    executor: Executor = EXECUTORS.get(name).create(context)
    return executor


def make_client(hpc: HpcSettings) -> SlurmClient:
    """Make the client of the cluster that the settings name."""
    token = hpc.token.get_secret_value() if hpc.token else ""
    return SlurmClient(
        hpc.url,
        hpc.username or "",
        token_source(token, hpc.token_file, hpc.token_command or ""),
        timeout=hpc.timeout,
        ca=hpc.ca_file,
        dialect=hpc.api_endpoint,
    )
