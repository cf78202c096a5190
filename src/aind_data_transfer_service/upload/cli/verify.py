"""`aind-data-transfer-service verify`: prove again that assets are what was sent.

It needs nothing but the asset and its manifest, at any later time.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from aind_data_transfer_service.errors import ExitCode, RequestError, UploadError, VerificationError
from aind_data_transfer_service.plain_text import more, shown
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.upload.cli.runner import as_program
from aind_data_transfer_service.upload.verify.audit import Report, audit


@dataclass(frozen=True)
class Place:
    """Where an asset is."""

    root: str
    """``s3://``, or the folder that holds the buckets."""
    bucket: str
    asset: str


def place_of(text: str, bucket: str | None, root: str) -> Place:
    """Read where an asset is.

    Parameters
    ----------
    text : str
        `s3://bucket/asset`, the path of a local asset, `bucket/asset`, or the asset's name alone.
    bucket : str | None
        The bucket of assets that are named alone.
    root : str
        Where buckets are that are named without a root.

    Raises
    ------
    RequestError
        Where it names no asset.
    """
    parts = [part for part in text.removeprefix("s3://").split("/") if part]
    if text.startswith("/") and len(parts) > 1:
        path = PurePosixPath(text)
        return Place(str(path.parent.parent), path.parent.name, path.name)
    if text.startswith("s3://") and len(parts) == 2:
        return Place("s3://", *parts)
    if not text.startswith(("s3://", "/")) and len(parts) == 2 and not bucket:
        return Place(root, *parts)
    if not text.startswith(("s3://", "/")) and len(parts) == 1 and bucket:
        return Place(root, bucket, parts[0])
    raise RequestError(
        f"{shown(text)} names no asset; write s3://bucket/asset, the path of a local one, "
        "bucket/asset, or --bucket and its name"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    parser = argparse.ArgumentParser(
        prog="aind-data-transfer-service verify",
        description="Prove again that assets are what was sent, from their manifests alone. "
        "Credentials come from the environment, as for an upload.",
    )
    parser.add_argument(
        "assets",
        nargs="+",
        metavar="ASSET",
        help="s3://bucket/asset, the path of a local one, bucket/asset, or its name",
    )
    parser.add_argument("--bucket", help="the bucket of assets that are named alone")
    parser.add_argument(
        "--deep", action="store_true", help="read every byte back and compare its SHA-256"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object an asset")
    options = parser.parse_args(argv)
    return as_program(lambda settings: _verify_all(options, settings))


def _verify_all(options: argparse.Namespace, settings: UploadSettings) -> None:
    """Prove assets one after the other; the gravest that was found ends the program."""
    places = [place_of(text, options.bucket, settings.destination_root) for text in options.assets]
    failed: list[UploadError] = []
    for place in places:
        try:
            store = open_store(place.root, place.bucket, settings.s3_endpoint_url)
            report = audit(store, place.asset, options.deep)
        except UploadError as error:
            failed.append(error)
            _print_error(store_name(place), error, options.json)
            continue
        _print_report(report, options.json)
        if report.differences_total:
            words = [report.words(difference) for difference in report.differences[:1]]
            failed.append(VerificationError(f"{report.location} is not what was sent: {words[0]}"))
    if failed:
        gravest = max(failed, key=lambda error: error.exit_code)
        rest = f" (and {more(len(failed) - 1)} of {len(places):,} assets)" if failed[1:] else ""
        raise type(gravest)(f"{gravest}{rest}")


def store_name(place: Place) -> str:
    """Write a place as people would."""
    root = place.root if place.root.endswith("/") else f"{place.root}/"
    return f"{root}{place.bucket}/{place.asset}"


def _print_report(report: Report, as_json: bool) -> None:
    """Print what was found."""
    if as_json:
        print(json.dumps(report.as_json()), flush=True)
    else:
        print(*report.lines(), sep="\n", flush=True)


def _print_error(location: str, error: UploadError, as_json: bool) -> None:
    """Print why an asset could not be proven."""
    if as_json:
        code = ExitCode(error.exit_code)
        said = {"asset": location, "proven": False, "error": str(error), "exit_code": int(code)}
        print(json.dumps(said), flush=True)
    else:
        print(f"{location}: {error}", file=sys.stderr)
