"""The command `clean`: which buckets and folders are gone through, and what is told of it."""

import argparse
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from aind_data_transfer_service.errors import DestinationError, RequestError, UploadError
from aind_data_transfer_service.plain_text import listed, shown
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.upload.cli.runner import as_program
from aind_data_transfer_service.upload.resume.garbage import Finding, Leftovers, read_age


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    parser = argparse.ArgumentParser(
        prog="aind-data-transfer-service clean",
        description="List and remove what dead jobs left behind: uploads in parts that were never "
        "completed, and this machine's records of transfers that are over. Half an asset is "
        "listed, and stays: the same job goes on from it when it is run again.",
    )
    parser.add_argument(
        "places",
        nargs="*",
        metavar="PLACE",
        help="a bucket, s3://bucket/beginning-of-names, or the path of a local bucket; without "
        "one, the buckets of which this machine has records",
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be removed")
    parser.add_argument(
        "--older-than",
        default="7d",
        metavar="AGE",
        help="never touch what is younger: 7d, 12h, 30m (default: %(default)s)",
    )
    parser.add_argument(
        "--remove-unfinished",
        action="append",
        default=[],
        metavar="ASSET",
        help="remove this half asset, all that has arrived of it; may be given several times",
    )
    parser.add_argument(
        "--job-files",
        action="store_true",
        help="remove the files, logs among them, of the service's jobs that nobody has written "
        "for that long; what the service's database says of them stays",
    )
    options = parser.parse_args(argv)
    return as_program(lambda settings: _clean(options, settings))


def _clean(options: argparse.Namespace, settings: UploadSettings) -> None:
    """Go through everything that was asked for."""
    leftovers = Leftovers(read_age(options.older_than), datetime.now(UTC))
    places = options.places or _known_buckets(settings)
    if options.remove_unfinished and len(places) != 1:
        raise RequestError("--remove-unfinished needs exactly one bucket, that of the asset")
    if not places and not options.job_files:
        print(
            f"no bucket was named, and {settings.state_dir} knows of no unfinished transfer; "
            "to look into a bucket, name it"
        )
    failed: list[UploadError] = []
    for text in places:
        root, bucket, beneath = _place_of(text, settings.destination_root)
        store = open_store(root, bucket, settings.s3_endpoint_url)
        state_dir = settings.state_dir / bucket
        found = leftovers.of_bucket(store, beneath, state_dir, options.remove_unfinished)
        failed += _tell(_title(store), found, options)
    if options.job_files:
        jobs = settings.data_dir / "jobs"
        failed += _tell(str(jobs), leftovers.of_jobs(jobs), options)
    if failed:
        raise DestinationError(listed(list(map(str, failed)), 1))


def _tell(
    title: str, findings: Iterator[Finding], options: argparse.Namespace
) -> list[UploadError]:
    """Remove what is to be removed, telling each; give what could not be."""
    print(f"{title}, what is older than {options.older_than}:", flush=True)
    failed: list[UploadError] = []
    count = 0
    for finding in findings:
        count += 1
        try:
            print(f"  {_done_with(finding, options.dry_run)}", flush=True)
        except (UploadError, OSError) as error:
            print(f"  not removed  {finding.words}: {error}", flush=True)
            failed.append(DestinationError(f"not removed: {finding.words}: {error}"))
    if not count:
        print("  nothing lies about")
    return failed


def _done_with(finding: Finding, dry_run: bool) -> str:
    """Remove something if it is to be removed, and tell what was done."""
    if finding.remove is None:
        return f"stays         {finding.words}"
    if dry_run:
        return f"would remove  {finding.words}"
    more = finding.remove()
    return f"removed       {finding.words}{more}"


def _place_of(text: str, root: str) -> tuple[str, str, str]:
    """Read which bucket is meant: its root, its name, and how assets in it begin."""
    parts = [part for part in text.removeprefix("s3://").split("/") if part]
    if text.startswith("/") and len(parts) > 1:
        path = PurePosixPath(text)
        return str(path.parent), path.name, ""
    if not text.startswith("/") and 1 <= len(parts) <= 2:
        beneath = parts[1] if parts[1:] else ""
        return ("s3://" if text.startswith("s3://") else root), parts[0], beneath
    raise RequestError(
        f"{shown(text)} is no bucket; write its name, s3://bucket, s3://bucket/beginning-of-names "
        "or the path of a local one"
    )


def _known_buckets(settings: UploadSettings) -> list[str]:
    """Name the buckets of which this machine has records."""
    folder: Path = settings.state_dir
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _title(store: AssetStore) -> str:
    """Name a bucket as people would."""
    return store.location("").rstrip("/")
