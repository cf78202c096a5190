"""Which executor the settings ask for."""

import hashlib

from aind_data_transfer_service.executors.base import Executor, Guard, unguarded
from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.executors.local.executor import LocalExecutor
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.tokens import token_source


def choose_executor(
    settings: ServiceSettings, callbacks: Callbacks | None = None, guard: Guard = unguarded
) -> Executor:
    """Make the executor for a service: this machine, unless a cluster is named.

    Parameters
    ----------
    settings : ServiceSettings
        What the administrator chose.
    callbacks : Callbacks, optional
        How the jobs reach the service with their events.
    guard : Callable
        Raises an error if this process may not start or cancel jobs.
    """
    if settings.on_cluster:
        environment = settings.agreed_environment()
        return SlurmExecutor(
            make_client(settings.hpc),
            settings.hpc,
            environment,
            callbacks=callbacks,
            hpc_for=settings.hpc_for,
            guard=guard,
        )
    environment = settings.job_environment()
    environment["UPLOAD_STATE_DIR"] = str(settings.data_dir / "transfers")
    return LocalExecutor(
        settings.jobs_dir,
        environment,
        slots=settings.local_executor_slots,
        guard=guard,
        database=_database_id(settings),
    )


def _database_id(settings: ServiceSettings) -> str:
    """Return what tells databases apart, and does not give away the password of one."""
    shown = settings.resolved_database_url.rpartition("@")[2]
    return hashlib.sha256(shown.encode("utf-8", "replace")).hexdigest()[:16]


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
