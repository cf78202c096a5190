"""What the service knows of the account that buckets of open data belong to."""

from fnmatch import fnmatchcase
from typing import Self

from pydantic import SecretStr, model_validator

from aind_data_transfer_service.settings.environment import EnvironmentSettings
from aind_data_transfer_service.settings.hpc import HpcSettings
from aind_data_transfer_service.settings.kinds import Names


class OpenDataSettings(EnvironmentSettings):
    """What the web service reads of a second account: every variable begins with `OPEN_DATA_`."""

    prefix = "OPEN_DATA_"

    buckets: Names = frozenset({"aind-open-data"})
    """The account's buckets, by their names or by patterns such as `open-*`."""
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_default_region: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse half of a pair of keys."""
        if bool(self.aws_access_key_id) != bool(self.aws_secret_access_key):
            raise ValueError(
                "set both of OPEN_DATA_AWS_ACCESS_KEY_ID and OPEN_DATA_AWS_SECRET_ACCESS_KEY, "
                "or neither"
            )
        return self

    def owns(self, bucket: str) -> bool:
        """Tell whether a bucket is reached by this account's keys."""
        return bool(self.aws_access_key_id) and any(
            fnmatchcase(bucket, pattern) for pattern in self.buckets
        )

    def in_place_of(self, hpc: HpcSettings) -> HpcSettings:
        """Give the cluster's settings with this account's keys."""
        return hpc.model_copy(
            update={
                "aws_access_key_id": self.aws_access_key_id,
                "aws_secret_access_key": self.aws_secret_access_key,
                "aws_session_token": self.aws_session_token,
                "aws_default_region": self.aws_default_region or hpc.aws_default_region,
            }
        )
