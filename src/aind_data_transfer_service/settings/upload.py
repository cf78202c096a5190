"""What a data transfer job reads from its environment."""

import os
import resource
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from aind_data_transfer_service.settings.common import CommonSettings
from aind_data_transfer_service.settings.types import (
    ByteCount,
    ByteRate,
    Folders,
    ShardNumber,
    WebAddress,
)

_MEBI = 1024**2


class UploadSettings(CommonSettings):
    """What a data transfer job reads from its environment."""

    job_id: str | None = None
    """The service's id of this job, repeated in every event."""
    upload_recorded: bool = False
    """Whether the service has recorded the request: its bucket is a name and never a word, and its
    values are not checked again."""
    upload_asset: str | None = Field(default=None, pattern=r"^[^/]+$")
    """The asset's name, if the service has recorded it; by default it follows from the request."""
    upload_events_file: Path | None = None
    """Where events are written, one JSON object a line; without one they are only logged."""
    upload_cancel_file: Path | None = None
    """Where this file exists, a SIGTERM is a user's cancellation: unfinished parts are removed."""
    upload_cancel_url: WebAddress | None = None
    """Where the job asks after a SIGTERM whether a user has cancelled it."""
    upload_callback_url: WebAddress | None = None
    """Where the file of events is brought as well, piece by piece."""
    upload_callback_token: SecretStr | None = None
    """By which the service knows this job, at `UPLOAD_CALLBACK_URL` and `UPLOAD_CANCEL_URL`."""
    upload_state_dir: Path | None = None
    """Where the record of proven files lies, by which an interrupted transfer goes on."""
    upload_private_paths: Folders | None = None
    """Folders and files that are never read, in addition to the system's: the service's own."""
    upload_connections: int = Field(default_factory=lambda: _most_connections(), gt=0, le=256)
    """How many files or parts are on their way at once."""
    upload_shard: ShardNumber | None = None
    """Which part of the asset this job sends, as `3/8`; without it, all of it."""
    upload_shard_bytes: int | None = Field(default=None, gt=0)
    """How many bytes each further shard is worth; smaller assets have fewer shards."""
    upload_shards_done: int | None = Field(default=None, gt=0)
    """How many shards went before this job, which completes what they began."""
    upload_memory: ByteCount = Field(default_factory=lambda: _share_of_memory(), ge=32 * _MEBI)
    """How many bytes may be between source and destination at once."""
    upload_bandwidth: ByteRate | None = None
    """How many bytes a second may be sent, such as `200MB/s` or `1.5 Gbit/s`; without one, all."""
    upload_retry_seconds: float = Field(default=600.0, gt=0, le=86_400)
    """How long a request to the store that fails is tried again."""
    upload_json: str | None = Field(default=None, alias="UPLOAD_JOB_JSON_ARGS")
    """The request, where it comes neither as an argument nor as a file."""

    @model_validator(mode="after")
    def _whose_shard(self) -> Self:
        """Refuse a shard of nobody's, and a job that is both."""
        if self.upload_shard and not self.job_id:
            raise ValueError("UPLOAD_SHARD is set, so JOB_ID is needed: whose shard is it?")
        if self.upload_shard and self.upload_shards_done:
            raise ValueError("UPLOAD_SHARD and UPLOAD_SHARDS_DONE are set; a job is one of the two")
        return self

    @property
    def private_paths(self) -> list[Path]:
        """Return what this job never reads, in addition to the system's folders."""
        return [self.data_dir] if self.upload_private_paths is None else self.upload_private_paths

    @property
    def state_dir(self) -> Path:
        """Where records of unfinished transfers lie."""
        return self.upload_state_dir or self.data_dir / "transfers"


def _most_connections() -> int:
    """Take 256, or half of the files that the system lets a process have open, if those are fewer.

    So many wait for a store that takes its time; one that answers at once never sees most of them.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 256 if limit == resource.RLIM_INFINITY else max(1, min(256, limit // 2))


def _share_of_memory() -> int:
    """Take an eighth of the machine's memory, and never so much that a job has 512 MB."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(32 * _MEBI, min(256 * _MEBI, whole // 8))
