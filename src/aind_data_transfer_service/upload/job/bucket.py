"""Which bucket a job uploads to."""

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.configs.validators import bucket_problem
from aind_data_transfer_service.errors import RequestError
from aind_data_transfer_service.settings.upload import UploadSettings


def find_bucket(config: BasicUploadJobConfigs, settings: UploadSettings) -> str:
    """Return the bucket that a job uploads to.

    Raises
    ------
    RequestError
        If neither the request nor the settings name one, or if it is not allowed.
    """
    bucket = settings.bucket_for(config.s3_bucket)
    if bucket is None:
        raise RequestError(
            "s3_bucket: missing; name the bucket to upload to, or set DEFAULT_S3_BUCKET"
        )
    if problem := bucket_problem(bucket, settings.allowed_buckets):
        raise RequestError(f"s3_bucket: {problem}")
    return bucket
