"""What can go wrong between us and slurmrestd.

::

    SlurmError                  (an ExecutorError)
    ├── Unreachable             nothing was carried out: no connection, or no answer to a question
    ├── Unauthorised            the token is not accepted
    ├── TokenUnavailable        there is no token: the file or command that yields it fails
    ├── Refused                 Slurm says no, in its own words
    │   ├── Busy                Slurm cannot take the job now: send it again later
    │   ├── Unconfirmed         Slurm complains with a status of success: the job may run
    │   ├── NoSuchJob           Slurm does not know the job, or no longer
    │   └── NotExpressible      the cluster's dialect has no word for what is asked
    ├── NotSlurm                something answers that is not slurmrestd
    └── AnswerLost              its answer was lost: it may have been carried out

Each message says what was found and what to do next, on one line, and never holds a token.
"""

from dataclasses import dataclass
from typing import Any

from aind_data_transfer_service.errors import ExecutorError


class SlurmError(ExecutorError):
    """The cluster's REST service did not do what it was asked to."""


class Unreachable(SlurmError):
    """The service cannot be reached, or did not answer a question; nothing was carried out.

    Attributes
    ----------
    perhaps_token : bool
        Whether the token may be to blame: slurmctld drops a request whose token it rejects.
    """

    def __init__(self, message: str, *, perhaps_token: bool = False):
        """Say what is not there."""
        super().__init__(message)
        self.perhaps_token = perhaps_token


class Unauthorised(SlurmError):
    """The token is not accepted."""


class TokenUnavailable(SlurmError):
    """There is no token to be had."""


@dataclass(frozen=True)
class SlurmComplaint:
    """One entry of Slurm's own list of errors."""

    number: int | None
    text: str

    def __str__(self) -> str:
        """Put it into one line."""
        return f"{self.text} ({self.number})" if self.number is not None else self.text


class Refused(SlurmError):
    """Slurm says no.

    Attributes
    ----------
    complaints : tuple of SlurmComplaint
        What Slurm said, in its own words.
    status : int
        The HTTP status that came with it.
    answer : dict
        The whole answer, as it came.
    """

    def __init__(
        self,
        message: str,
        complaints: tuple[SlurmComplaint, ...] = (),
        status: int = 0,
        answer: dict[str, Any] | None = None,
    ):
        """Keep what Slurm said beside our own words for it."""
        super().__init__(message)
        self.complaints = complaints
        self.status = status
        self.answer = answer or {}


class Busy(Refused):
    """Slurm cannot take the job now; `sbatch` itself would wait and submit it again."""


class Unconfirmed(Refused):
    """Slurm answers a submission with success, errors and no job ID: it may have been accepted.

    Attributes
    ----------
    meaning : SlurmError
        What the errors mean if the job was not accepted.
    """

    def __init__(self, meaning: SlurmError, status: int, answer: dict[str, Any]):
        """Keep the answer and what it means."""
        complaints = meaning.complaints if isinstance(meaning, Refused) else ()
        super().__init__(str(meaning), complaints, status, answer)
        self.meaning = meaning


class NoSuchJob(Refused):
    """Slurm does not know the job, or has forgotten it."""


class NotExpressible(Refused):
    """The dialect that the cluster speaks has no word for a property that was asked for."""


class NotSlurm(SlurmError):
    """Something answers at the address that is not slurmrestd, such as a proxy's error page."""


class AnswerLost(SlurmError):
    """The request was sent and its answer lost: it may have been carried out."""
