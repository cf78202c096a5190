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


def word_problem(word: str, bucket_names: Mapping[str, str]) -> str:
    """Return why a job of an earlier release cannot run, whose bucket is a word; empty if it can.

    That release took the word for the name of a bucket, where the job's record says that the asset
    goes. It is right if the bucket of the word is called so.

    Parameters
    ----------
    word : str
        The word.
    bucket_names : Mapping[str, str]
        The buckets that the settings name, by word.
    """
    bucket = bucket_names.get(word)
    if bucket == word:
        return ""
    start = f"s3_bucket: an earlier release recorded {quoted(word)} as the name of a bucket"
    if bucket is None:
        return (
            f"{start}, and this service does not know the bucket that it stands for; have the "
            f"administrator set {BUCKET_WORDS[word]}, and resubmit the job"
        )
    return f"{start}, and it stands for {bucket}; resubmit the job to upload to {bucket}"


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
