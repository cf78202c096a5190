"""The declaration of the executor `slurm`."""

from aind_data_transfer_service.executors.registry import ExecutorContext, make_client
from aind_data_transfer_service.executors.slurm.executor import SlurmExecutor


class Slurm:
    """Jobs run on a cluster of Slurm, by slurmrestd."""

    name, label = "slurm", "Slurm"
    settings = None

    @classmethod
    def create(cls, context: ExecutorContext) -> SlurmExecutor:
        """Make the executor."""
        service = context.service
        return SlurmExecutor(
            make_client(service.hpc),
            service.hpc,
            service.agreed_environment(),
            callbacks=context.callbacks,
            hpc_for=service.hpc_for,
            guard=context.guard,
        )
