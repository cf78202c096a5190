"""How requests to S3 are addressed, and with which headers objects are stored."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, quote, urlencode

from pydantic import AfterValidator, Field, model_validator

from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.types import WebAddress

_MOST_TAGS = 10
"""S3's limit of tags of one object."""


def _tags(value: str) -> str:
    """Take `key=value` pairs joined by `&`, and encode them as S3 expects them."""
    try:
        pairs = parse_qsl(value, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = []
    names = {name for name, _ in pairs}
    if not pairs or "" in names or len(names) < len(pairs) or len(pairs) > _MOST_TAGS:
        raise ValueError(
            f"write up to {_MOST_TAGS} tags with different keys, as project=mapping&lab=north"
        )
    return urlencode(pairs, quote_via=quote)


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
    s3_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """The server-side encryption to ask for; without it, the bucket's default."""
    s3_kms_key_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_:/.-]+$", max_length=2048)
    """The KMS key, if `S3_ENCRYPTION` asks for KMS; without it the account's own is used."""
    s3_bucket_key: bool | None = None
    """Whether encryption with KMS uses an S3 Bucket Key."""
    s3_acl: (
        Literal[
            "private",
            "bucket-owner-full-control",
            "bucket-owner-read",
            "authenticated-read",
            "aws-exec-read",
            "public-read",
            "public-read-write",
        ]
        | None
    ) = None
    """The canned ACL of each object."""
    s3_storage_class: str | None = Field(default=None, pattern=r"^[A-Z][A-Z_]{1,40}$")
    """The storage class of data; documents and records keep the default one."""
    s3_tags: Annotated[str, AfterValidator(_tags)] | None = None
    """Tags of each object, as `project=mapping&lab=north`."""
    s3_requester_pays: bool = False
    """Accept the charges for requests to a Requester Pays bucket."""
    s3_bucket_owner: str | None = Field(default=None, pattern=r"^[0-9]{12}$")
    """The account that must own the bucket."""

    @model_validator(mode="after")
    def _of_kms(self) -> Self:
        """Refuse settings of KMS without KMS."""
        if self.s3_encryption in ("aws:kms", "aws:kms:dsse"):
            return self
        for name in ("s3_kms_key_id", "s3_bucket_key"):
            if getattr(self, name) is not None:
                raise ValueError(f"{name.upper()} is set, so S3_ENCRYPTION must be aws:kms")
        return self

    def request_headers(self) -> Mapping[str, str]:
        """Return the headers of every request."""
        headers = {}
        if self.s3_requester_pays:
            headers["x-amz-request-payer"] = "requester"
        if self.s3_bucket_owner:
            headers["x-amz-expected-bucket-owner"] = self.s3_bucket_owner
        return headers

    def object_headers(self) -> Mapping[str, str]:
        """Return the headers of PutObject and CreateMultipartUpload, but for the storage class."""
        values = {
            "x-amz-server-side-encryption": self.s3_encryption,
            "x-amz-server-side-encryption-aws-kms-key-id": self.s3_kms_key_id,
            "x-amz-server-side-encryption-bucket-key-enabled": _flag(self.s3_bucket_key),
            "x-amz-acl": self.s3_acl,
            "x-amz-tagging": self.s3_tags,
        }
        return {name: value for name, value in values.items() if value is not None}


def _flag(value: bool | None) -> str | None:
    """Write a flag as S3 reads it."""
    return None if value is None else str(value).lower()
