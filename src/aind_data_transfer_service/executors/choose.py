"""Which executor the settings ask for."""

from aind_data_transfer_service.executors.base import Executor
from aind_data_transfer_service.executors.local import LocalExecutor
from aind_data_transfer_service.executors.unavailable import UnavailableExecutor
from aind_data_transfer_service.settings import ServiceSettings

NO_CLUSTER = (
    "HPC_HOST is set, but this release cannot run jobs on a cluster; "
    "unset HPC_HOST to run them on this machine"
)


def choose_executor(settings: ServiceSettings) -> Executor:
    """Make the executor for a service: this machine, unless a cluster is named."""
    if settings.hpc_host:
        return UnavailableExecutor(NO_CLUSTER)
    environment = settings.job_environment()
    environment["UPLOAD_STATE_DIR"] = str(settings.data_dir / "transfers")
    return LocalExecutor(settings.jobs_dir, environment, slots=settings.local_executor_slots)
