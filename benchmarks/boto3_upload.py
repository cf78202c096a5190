"""Upload a folder with boto3: `upload_file` in a pool of 64 threads.

One client, with enough connections, is shared by all threads. A small file is sent by the thread
that took it; only for a large one does a transfer start threads, which send its parts. Keys,
endpoint and trusted certificates come from the `AWS_` variables. Run by `transfer.py` with a Python
that has boto3::

    python benchmarks/boto3_upload.py FOLDER BUCKET PREFIX
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from floor import files_of

THREADS = 64
_MEBI = 1024**2
_PART = 16 * _MEBI
_SMALL = TransferConfig(use_threads=False, preferred_transfer_client="classic")
_LARGE = TransferConfig(
    multipart_threshold=_PART,
    multipart_chunksize=_PART,
    max_concurrency=16,
    preferred_transfer_client="classic",
)


def main(folder: str, bucket: str, prefix: str) -> None:
    """Upload all files, the largest first.

    Parameters
    ----------
    folder : str
        The folder to upload.
    bucket : str
        The destination bucket.
    prefix : str
        The prefix of all keys, without a slash at its end.
    """
    client = boto3.client("s3", config=Config(max_pool_connections=2 * THREADS))

    def upload(path: str, size: int) -> None:
        key = f"{prefix}/{os.path.relpath(path, folder)}"
        client.upload_file(path, bucket, key, Config=_LARGE if size > _PART else _SMALL)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(upload, *file) for file in files_of(folder)]:
            future.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
