"""Upload a folder with obstore: `put` in a pool of 64 threads.

obstore reads, signs and sends in Rust, while the thread waits without the interpreter's lock. Its
own `put` sends a file larger than a part as a multipart upload, 12 parts at once (default). It is
not called from an event loop: that is no faster, and the process is sometimes aborted when the
interpreter exits (pyo3-async-runtimes issue 40). Keys and endpoint come from the `AWS_` variables.
Run by `transfer.py` with a Python that has obstore::

    python benchmarks/obstore_upload.py FOLDER BUCKET PREFIX
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from floor import files_of
from obstore.store import S3Store

THREADS = 64
_PART = 16 * 1024**2


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
    options: dict[str, bool | str] = {"allow_http": True}
    if "AWS_CA_BUNDLE" in os.environ:
        options["root_certificate"] = Path(os.environ["AWS_CA_BUNDLE"]).read_text()
    region = os.environ["AWS_DEFAULT_REGION"]
    store = S3Store(bucket, prefix=prefix, region=region, client_options=options)

    def upload(path: str) -> None:
        store.put(os.path.relpath(path, folder), Path(path), chunk_size=_PART)

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(upload, path) for path, _ in files_of(folder)]:
            future.result()


if __name__ == "__main__":
    main(*sys.argv[1:])
