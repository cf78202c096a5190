"""How requests to S3 are addressed."""

from typing import Literal

from aind_data_transfer_service.settings.environment import EnvironmentSettings
from aind_data_transfer_service.settings.kinds import WebAddress


class S3Settings(EnvironmentSettings):
    """How a job speaks to S3; the same for the service and for jobs on a cluster."""

    aws_endpoint_url_s3: WebAddress | None = None
    """Address of the S3 server; has precedence over `AWS_ENDPOINT_URL`."""
    aws_ignore_configured_endpoint_urls: bool = False
    """Use Amazon's addresses, whatever variables and profiles say."""
    aws_use_fips_endpoint: bool | None = None
    """Use Amazon's FIPS 140 validated endpoints."""
    aws_use_dualstack_endpoint: bool | None = None
    """Use Amazon's endpoints that IPv6 reaches as well."""
    s3_addressing_style: Literal["auto", "path", "virtual"] | None = None
    """Where requests name the bucket: in the path or in the host name."""

    def environment(self) -> dict[str, str]:
        """Return the variables that are set, for a job elsewhere."""
        return {
            variable: str(value).lower() if isinstance(value, bool) else str(value)
            for name, variable in self.variables().items()
            if name in self.model_fields_set and (value := getattr(self, name)) is not None
        }
