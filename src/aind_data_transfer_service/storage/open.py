"""Open a bucket, or the local folder that stands for one."""

from pathlib import Path

from aind_data_transfer_service.storage.base import AssetStore, Conduct
from aind_data_transfer_service.storage.model import S3Keys


def open_store(
    destination_root: str,
    bucket: str,
    endpoint_url: str | None = None,
    quick: bool = False,
    keys: S3Keys | None = None,
    conduct: Conduct = Conduct(),
) -> AssetStore:
    """Open a bucket. Nothing is asked or created yet.

    Parameters
    ----------
    destination_root : str
        `s3://`, or the absolute path of the folder that holds the buckets.
    bucket : str
        Name of the bucket.
    endpoint_url : str | None
        Address of an S3 server other than Amazon's.
    quick : bool
        Give up after seconds rather than minutes: for checks that a person waits for.
    keys : S3Keys | None
        Credentials other than those of the environment.
    conduct : Conduct
        How the server is treated.
    """
    if destination_root == "s3://":
        from aind_data_transfer_service.storage.s3_store import S3AssetStore

        return S3AssetStore(bucket, endpoint_url, quick, keys, conduct)
    from aind_data_transfer_service.storage.local_store import LocalAssetStore

    return LocalAssetStore(Path(destination_root) / bucket, conduct.bandwidth)
