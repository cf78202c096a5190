"""Headers of requests to S3 that follow from settings and from the names of files.

Which request may have which header is that of the S3 API reference: encryption, ACL, tags and
storage class go with PutObject and CreateMultipartUpload, not with UploadPart and
CompleteMultipartUpload; payer and expected owner go with every request.
"""

import mimetypes
from collections.abc import Mapping
from functools import lru_cache

from aind_data_transfer_service.settings.s3 import S3Settings
from aind_data_transfer_service.storage.layout import RECORDS

_TYPES = mimetypes.MimeTypes(filenames=())
"""Python's own table: the machine's would make objects differ from node to node."""
_MORE = {
    ".gz": "application/gzip",
    ".bz2": "application/x-bzip2",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_BY_SUFFIX = {
    suffix: kind
    for suffix, kind in (_TYPES.types_map[True] | _MORE).items()
    if kind != "application/octet-stream"  # as without any
}


def content_type(key: str) -> str | None:
    """Return the media type that belongs to a file's name; None if it is not known."""
    return _of_suffix(key[key.rfind(".") :])


@lru_cache(maxsize=256)
def _of_suffix(suffix: str) -> str | None:
    """Return the media type that a suffix stands for, in whatever case."""
    return _BY_SUFFIX.get(suffix) or _BY_SUFFIX.get(suffix.lower())


class Headers:
    """The headers that settings add.

    Parameters
    ----------
    settings : S3Settings
        What is configured.
    is_trial : bool
        Whether the storage class goes with every object, to find out whether the store accepts it.
    """

    def __init__(self, settings: S3Settings, is_trial: bool = False):
        self.every: Mapping[str, str] = settings.request_headers()
        """Those of every request."""
        self.settings = settings
        self._object = settings.object_headers()
        self._class, self._is_trial = settings.s3_storage_class, is_trial

    def of_object(self, key: str, is_data: bool) -> dict[str, str]:
        """Return the headers with which an object is created.

        Parameters
        ----------
        key : str
            Its place.
        is_data : bool
            Whether it is a file of the source. Documents and records are read again by later jobs,
            so that they never go to a storage class from which objects have to be restored.
        """
        headers = dict(self._object)
        if found := content_type(key):
            headers["content-type"] = found
        if self._class:
            is_data = is_data and not key.startswith(f"{RECORDS}/")
            if is_data or self._is_trial:
                headers["x-amz-storage-class"] = self._class
        return headers
