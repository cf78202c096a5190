"""Every error of ours, in one tree.

::

    TransferServiceError
    ├── SpreadsheetError        a file of jobs cannot be read at all
    ├── SubmissionError         a request for jobs cannot be accepted
    │   └── InFlightError       another job is bringing the same asset at this moment
    ├── JobError                something asked of a recorded job cannot be done
    │   ├── JobNotFound
    │   └── TransitionError     a state may not follow another
    ├── ExecutorError           a job cannot be started, followed or cancelled
    │   └── LeaseLostError      another process of the service runs the jobs
    ├── UnavailableError        the service cannot do this now; a later attempt may succeed
    │   └── StoreUnavailable    the database does not answer in time
    ├── WorkerError             a worker process failed at a request
    │   ├── WorkerTimeout       it exceeded its deadline
    │   └── WorkerDied          it ended
    ├── PostUploadError         a step after a verified upload failed
    │   └── RetryableError      a later attempt may succeed
    └── UploadError             a data transfer job has to stop; carries its exit code
        ├── RequestError        the job's request or settings cannot be read
        │   └── PluginError     a plug-in is not installed, or cannot be used
        ├── InputError          the data to be stored cannot be read
        │   ├── SourceError         a source folder or file is missing, unreadable or of no use
        │   └── SourceChangedError  a file changed while it was read
        ├── MetadataError       the metadata contradict the request, or are missing
        ├── DestinationError    the destination cannot be reached or written
        ├── DestinationExistsError  the asset is there already
        ├── TransferError       bytes could not be sent
        ├── VerificationError   what arrived is not what was there
        ├── CancelledError      a user cancelled the job
        ├── TimeLimitError      the job's time limit is near
        └── TerminatedError     a signal ended the job that no user asked for

The text of an error is for the person who made the request: what was found, where, and what would
be right. Each stands on one line.
"""

from collections.abc import Sequence
from enum import IntEnum

from aind_data_transfer_service.redaction import redact


class ExitCode(IntEnum):
    """How a data transfer job ended, as its process's exit code."""

    DONE = 0
    UNEXPECTED = 1
    REQUEST = 2
    SOURCE = 10
    SOURCE_CHANGED = 11
    METADATA = 12
    DESTINATION = 13
    DESTINATION_EXISTS = 14
    TRANSFER = 15
    VERIFICATION = 16
    TIME_LIMIT = 17
    CANCELLED = 130
    TERMINATED = 143


class TransferServiceError(Exception):
    """The root of all errors raised on purpose by this product."""

    def __str__(self) -> str:
        """Return the message without secrets: it may repeat what a server answered."""
        return redact(super().__str__())


class SpreadsheetError(TransferServiceError):
    """A file of jobs cannot be read at all."""


class SubmissionError(TransferServiceError):
    """A request for jobs cannot be accepted."""


class InFlightError(SubmissionError):
    """Another job is bringing the same asset at this moment.

    Attributes
    ----------
    job_ids : dict of str to str
        The job in flight, by the asset's location.
    """

    def __init__(self, job_ids: dict[str, str]):
        """Name the jobs that are in the way."""
        self.job_ids = job_ids
        super().__init__(
            "; ".join(f"job {job_id} is bringing {place}" for place, job_id in job_ids.items())
        )


class JobError(TransferServiceError):
    """Something asked of a recorded job cannot be done."""


class JobNotFound(JobError):
    """No job has this id."""


class TransitionError(JobError):
    """A job cannot go from the state that it is in to the one asked for."""


class EventsElsewhere(TransitionError):
    """A job's events are recorded up to another place than was thought."""


class ExecutorError(TransferServiceError):
    """A job cannot be started, followed or cancelled."""


class LeaseLostError(ExecutorError):
    """This process may not start, follow or cancel jobs: it does not hold the service's lease."""


class UnavailableError(TransferServiceError):
    """The service cannot do this now; a later attempt may succeed."""


class WorkerError(TransferServiceError):
    """A worker process failed at a request."""


class WorkerTimeout(WorkerError):
    """A worker process exceeded the deadline of a request."""


class WorkerDied(WorkerError):
    """A worker process ended while it worked on a request.

    Attributes
    ----------
    status : int or None
        How it ended: its exit code, or minus the signal.
    """

    def __init__(self, message: str, status: int | None):
        """Say how it ended."""
        self.status = status
        super().__init__(message)


class SpoiledFileError(ExecutorError):
    """Something else lies where a job should have left a file; that does not pass."""


class StoreUnavailable(UnavailableError):
    """The database does not answer in time."""


class PostUploadError(TransferServiceError):
    """A step after a verified upload failed."""


class RetryableError(PostUploadError):
    """A step failed temporarily; a later attempt may succeed.

    Attributes
    ----------
    wait : float
        Seconds that the server asks to wait before the next attempt.
    """

    def __init__(self, message: str, wait: float = 0.0):
        """Say what is wrong, and how long to wait."""
        self.wait = wait
        super().__init__(message)


class UploadError(TransferServiceError):
    """A data transfer job has to stop."""

    exit_code = ExitCode.UNEXPECTED


class RequestError(UploadError):
    """The job's request, or its settings, cannot be read."""

    exit_code = ExitCode.REQUEST


class PluginError(RequestError):
    """A plug-in is not installed, or cannot be used."""


class InputError(UploadError):
    """The data to be stored cannot be read."""

    is_changed = False
    """Whether the data are not what they were when the upload began: parts sent so far are useless.
    """


class SourceError(InputError):
    """A source folder or file is missing, unreadable or of no use."""

    exit_code = ExitCode.SOURCE


class SourceChangedError(InputError):
    """A file changed while it was read."""

    is_changed = True
    exit_code = ExitCode.SOURCE_CHANGED


class MetadataError(UploadError):
    """The metadata contradict the request, or are missing."""

    exit_code = ExitCode.METADATA


class DestinationError(UploadError):
    """The destination cannot be reached or written."""

    exit_code = ExitCode.DESTINATION


class DestinationExistsError(UploadError):
    """The asset is at the destination already."""

    exit_code = ExitCode.DESTINATION_EXISTS


class TransferError(UploadError):
    """Bytes could not be sent."""

    exit_code = ExitCode.TRANSFER


class VerificationError(UploadError):
    """What arrived is not what was there.

    Attributes
    ----------
    paths : sequence of str
        The files that are not, by their places in the asset.
    """

    exit_code = ExitCode.VERIFICATION

    def __init__(self, message: str, paths: Sequence[str] = ()):
        """Say what is wrong, and with which files."""
        self.paths = paths
        super().__init__(message)


class CancelledError(UploadError):
    """A user cancelled the job."""

    exit_code = ExitCode.CANCELLED


class TimeLimitError(UploadError):
    """The job's time limit is near, so that it stops while it can still record what it has sent."""

    exit_code = ExitCode.TIME_LIMIT


class TerminatedError(UploadError):
    """A signal ended the job that no user asked for: a time limit, preemption or shutdown."""

    exit_code = ExitCode.TERMINATED
