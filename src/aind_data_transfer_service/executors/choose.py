"""Which executor the settings ask for."""

from aind_data_transfer_service.executors.base import Executor
from aind_data_transfer_service.executors.callbacks import Callbacks
from aind_data_transfer_service.executors.local import LocalExecutor
from aind_data_transfer_service.executors.slurm import SlurmExecutor
from aind_data_transfer_service.hpc.client import SlurmClient
from aind_data_transfer_service.hpc.tokens import token_source
from aind_data_transfer_service.settings.hpc import HpcSettings
from aind_data_transfer_service.settings.service import ServiceSettings


def choose_executor(settings: ServiceSettings, callbacks: Callbacks | None = None) -> Executor:
    """Make the executor for a service: this machine, unless a cluster is named."""
    if settings.on_cluster:
        environment = settings.agreed_environment()
        return SlurmExecutor(
            make_client(settings.hpc),
            settings.hpc,
            environment,
            callbacks=callbacks,
            hpc_for=settings.hpc_for,
        )
    environment = settings.job_environment()
    environment["UPLOAD_STATE_DIR"] = str(settings.data_dir / "transfers")
    return LocalExecutor(settings.jobs_dir, environment, slots=settings.local_executor_slots)


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
