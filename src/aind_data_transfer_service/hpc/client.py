"""An asynchronous client of slurmrestd."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aind_data_transfer_service.hpc.models import (
    Pinged,
    SlurmJob,
    SlurmNode,
    Submission,
    Submitted,
)

if TYPE_CHECKING:
    from aind_data_transfer_service.hpc.dialects import Dialect
    from aind_data_transfer_service.hpc.tokens import TokenSource


class SlurmClient:
    """Asks slurmrestd, in whichever dialect it speaks, and gives the internal form.

    Parameters
    ----------
    base_url : str
        Scheme, host and port, such as `https://cluster:6820`.
    username : str
        In whose name requests are made.
    token : TokenSource
        Where the token comes from.
    timeout : float
        Seconds to wait for one answer.
    ca : Path, optional
        A file of certificates to trust, for https.
    dialect : str, optional
        Pins what is spoken, such as `slurm/v0.0.38`; found out from the server where left out.
    """

    def __init__(
        self,
        base_url: str,
        username: str,
        token: "TokenSource",
        *,
        timeout: float = 30.0,
        ca: Path | None = None,
        dialect: str | None = None,
    ): ...

    async def dialect(self) -> "Dialect":
        """Tell what is spoken; asked of the server once."""
        ...

    async def submit(self, submission: Submission) -> Submitted:
        """Submit a job. Sent once: `AnswerLost` where nobody knows whether it was accepted."""
        ...

    async def jobs(self, updated_since: datetime | None = None) -> list[SlurmJob]:
        """List all jobs that Slurm remembers, or those that changed since; one call."""
        ...

    async def job(self, job_id: int) -> SlurmJob | None:
        """Show one job; None where Slurm does not know it, or no longer."""
        ...

    async def cancel(self, job_id: int, signal: str | None = None) -> bool:
        """Cancel a job, or send it a signal; False where it has ended or nobody knows it."""
        ...

    async def ping(self) -> list[Pinged]:
        """Ask for the controllers."""
        ...

    async def nodes(self) -> list[SlurmNode]:
        """List the nodes."""
        ...

    async def aclose(self) -> None:
        """Let go of the connections."""
        ...
