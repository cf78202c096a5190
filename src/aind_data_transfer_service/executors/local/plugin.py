"""The declaration of the executor `local`."""

import hashlib

from aind_data_transfer_service.executors.local.executor import LocalExecutor
from aind_data_transfer_service.executors.registry import ExecutorContext
from aind_data_transfer_service.settings.service import ServiceSettings


class Local:
    """Jobs are processes of this machine."""

    name, label = "local", "This machine"
    settings = None

    @classmethod
    def create(cls, context: ExecutorContext) -> LocalExecutor:
        """Make the executor."""
        service = context.service
        environment = service.job_environment()
        environment["UPLOAD_STATE_DIR"] = str(service.data_dir / "transfers")
        return LocalExecutor(
            service.jobs_dir,
            environment,
            slots=service.local_executor_slots,
            guard=context.guard,
            database=_database_id(service),
        )


def _database_id(settings: ServiceSettings) -> str:
    """Return what tells databases apart, and does not give away the password of one."""
    shown = settings.resolved_database_url.rpartition("@")[2]
    return hashlib.sha256(shown.encode("utf-8", "replace")).hexdigest()[:16]
