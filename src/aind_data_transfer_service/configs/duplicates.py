"""Finding jobs of one request that name the same asset. Pure."""

from datetime import datetime
from typing import NamedTuple

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs


class _First(NamedTuple):
    """The first job of an asset."""

    number: int
    acq_datetime: datetime


class AssetRegister:
    """The assets of a request, each with the first job that names it.

    Parameters
    ----------
    noun : str
        What a job is called in errors: `row` or `job`.
    """

    def __init__(self, noun: str):
        self._noun = noun
        self._first: dict[tuple[str | None, str], _First] = {}

    def add(self, number: int, config: BasicUploadJobConfigs) -> str:
        """Add a job; return why it cannot be accepted, or an empty text.

        Parameters
        ----------
        number : int
            The number of the job.
        config : BasicUploadJobConfigs
            The job.
        """
        asset = (config.s3_bucket, config.s3_prefix)
        job = _First(number, config.acq_datetime)
        first = self._first.setdefault(asset, job)
        if first is job:
            return ""
        other = f"{self._noun} {first.number} ({config.s3_prefix})"
        times = first.acq_datetime, config.acq_datetime
        if all(one.tzinfo for one in times) and times[0] != times[1]:
            shown = " and ".join(one.isoformat() for one in times)
            return (
                f"the same asset name as {other}, though it is another session: the name holds the "
                f"time of the wall clock, which is the same for {shown}. If the seconds were left "
                "out or rounded, write them; if both times are exact, give one of them another "
                "s3_bucket; or correct its platform, subject_id or acq_datetime"
            )
        return (
            f"the same asset as {other}; remove one of them, or correct its platform, subject_id "
            "or acq_datetime"
        )
