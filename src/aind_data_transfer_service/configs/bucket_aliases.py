"""The words that requests may use in place of a bucket's name."""

from collections.abc import Mapping

from aind_data_transfer_service.configs.vocabulary import quoted

BUCKET_WORDS: Mapping[str, str] = {
    "default": "DEFAULT_S3_BUCKET",
    "open": "OPEN_DATA_BUCKET_NAME",
    "private": "PRIVATE_BUCKET_NAME",
    "scratch": "SCRATCH_BUCKET_NAME",
}
"""The setting with the bucket behind each word."""


def bucket_of(name: str, bucket_names: Mapping[str, str]) -> str:
    """Return the bucket that a name or a word stands for.

    Parameters
    ----------
    name : str
        The name of a bucket, or a word.
    bucket_names : Mapping[str, str]
        The buckets that the settings name, by word.

    Raises
    ------
    ValueError
        If the settings name no bucket for the word.
    """
    if name not in BUCKET_WORDS:
        return name
    if found := bucket_names.get(name):
        return found
    raise ValueError(
        f"{quoted(name)} stands for a bucket that this service does not know; write the name of "
        f"the bucket, or have the administrator set {BUCKET_WORDS[name]}"
    )
