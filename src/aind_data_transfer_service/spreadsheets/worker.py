"""The worker process that reads spreadsheets for the service, and what it exchanges with it.

It runs as `python -m aind_data_transfer_service.spreadsheets.worker`, started by
`spreadsheets.worker_pool`. The messages are typed and carry data only, so that a worker that a file
has broken cannot do anything to the service.
"""

import traceback
from zoneinfo import ZoneInfo

import msgspec

from aind_data_transfer_service.concurrency.worker_process import serve
from aind_data_transfer_service.configs.datetimes import DateOrder
from aind_data_transfer_service.spreadsheets.reader import JobRow, ReadOptions, read_jobs
from aind_data_transfer_service.spreadsheets.template import job_upload_template


class ReadRequest(msgspec.Struct, frozen=True):
    """A file to read, and the settings that bear on it."""

    filename: str
    data: bytes
    date_order: DateOrder
    lab_timezone: str
    allowed_buckets: list[str]
    bucket_names: dict[str, str] | None
    processor_optional: bool
    path_mappings: dict[str, str]
    names_platform: bool = True


class FoundModality(msgspec.Struct, frozen=True, gc=False):
    """What the checks need to know of a modality."""

    modality: str
    """Its abbreviation."""
    source: str
    extra_configs: str | None
    """The path of a file of them, if one is named."""
    former_field: str
    """The column that names it, if that is not one of modalities; else empty."""


class FoundJob(msgspec.Struct, frozen=True, gc=False):
    """A good row: its job as JSON text, and what the checks need to know of the job."""

    row: int
    text: str
    platform: str
    """Its abbreviation."""
    subject_id: str
    project_name: str
    s3_bucket: str | None
    s3_prefix: str
    force_cloud_sync: bool
    process_capsule_id: str | None
    metadata_dir: str | None
    modalities: list[FoundModality]


class ReadReply(msgspec.Struct, frozen=True):
    """What a file holds."""

    jobs: list[FoundJob] = []
    errors: list[str] = []
    error_count: int = 0
    warnings: list[str] = []
    is_too_large: bool = False
    """Whether reading the file needs more memory than the worker may use."""
    fault: str = ""
    """The traceback of an error in the reader itself."""


def main() -> None:
    """Read files until the service ends."""
    serve(_handle, _warm)


def _handle(message: bytes) -> bytes:
    """Read the file of a request."""
    try:
        return _read(message)
    except MemoryError:
        return msgspec.msgpack.encode(ReadReply(is_too_large=True))
    except Exception:
        return msgspec.msgpack.encode(ReadReply(fault=traceback.format_exc()))


def _read(message: bytes) -> bytes:
    """Read the file of a request, and encode what was found."""
    request = msgspec.msgpack.decode(message, type=ReadRequest)
    zone = ZoneInfo(request.lab_timezone)
    options = ReadOptions(
        request.date_order,
        zone,
        request.allowed_buckets,
        request.bucket_names,
        request.processor_optional,
        request.path_mappings,
        request.names_platform,
    )
    result = read_jobs(request.data, request.filename, options)
    reply = ReadReply(
        jobs=list(map(_found, result.rows)),
        errors=result.errors,
        error_count=result.error_count,
        warnings=result.warnings,
    )
    return msgspec.msgpack.encode(reply)


def _found(row: JobRow) -> FoundJob:
    """Describe the job of a row."""
    config = row.config
    return FoundJob(
        row=row.number,
        text=row.text,
        platform=config.platform.abbreviation,
        subject_id=config.subject_id,
        project_name=config.project_name,
        s3_bucket=config.s3_bucket,
        s3_prefix=config.s3_prefix,
        force_cloud_sync=config.force_cloud_sync,
        process_capsule_id=config.process_capsule_id,
        metadata_dir=None if config.metadata_dir is None else str(config.metadata_dir),
        modalities=[
            FoundModality(
                one.modality.abbreviation,
                str(one.source),
                one.extra_configs if isinstance(one.extra_configs, str) else None,
                one.former_field,
            )
            for one in config.modalities
        ],
    )


def _warm() -> None:
    """Load the modules that reading needs, by reading the template as both kinds of file."""
    read_jobs(job_upload_template(), "template.xlsx")
    read_jobs(b"subject_id,platform\n1,behavior\n", "jobs.csv")


if __name__ == "__main__":
    main()
