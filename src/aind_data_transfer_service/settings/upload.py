"""What a data transfer job reads from its environment."""

from pathlib import Path

from pydantic import Field, SecretStr

from aind_data_transfer_service.settings.common import CommonSettings
from aind_data_transfer_service.settings.kinds import WebAddress


class UploadSettings(CommonSettings):
    """What a data transfer job reads from its environment."""

    job_id: str | None = None
    """The service's id of this job, repeated in every event."""
    upload_events_file: Path | None = None
    """Where events are written, one JSON object a line; without one they are only logged."""
    upload_callback_url: WebAddress | None = None
    """Where the file of events is brought as well, piece by piece."""
    upload_callback_token: SecretStr | None = None
    """By which the service knows this job; belongs to `UPLOAD_CALLBACK_URL`."""
    upload_state_dir: Path | None = None
    """Where the record of proven files lies, by which an interrupted transfer goes on."""
    upload_connections: int = Field(default=16, gt=0, le=256)
    """How many files or parts are on their way at once."""
    upload_json: str | None = Field(default=None, alias="UPLOAD_JOB_JSON_ARGS")
    """The request, where it comes neither as an argument nor as a file."""

    @property
    def state_dir(self) -> Path:
        """Where records of unfinished transfers lie."""
        return self.upload_state_dir or self.data_dir / "transfers"
