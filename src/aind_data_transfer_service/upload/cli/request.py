"""Reading a job's request: from the command line, a file or the environment."""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from aind_data_transfer_service.configs.error_messages import dotted, explain
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs, path_warnings
from aind_data_transfer_service.configs.job_requests import read_config
from aind_data_transfer_service.errors import RequestError
from aind_data_transfer_service.settings.upload import UploadSettings

logger = logging.getLogger(__name__)


def read_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; by default that of this process."""
    parser = argparse.ArgumentParser(
        prog="python -m aind_data_transfer_service.upload",
        description="Bring one session to its destination, described and verified. Without an "
        "argument the request is read from UPLOAD_JOB_JSON_ARGS.",
    )
    request = parser.add_mutually_exclusive_group()
    request.add_argument("--json-args", metavar="TEXT", help="the request as JSON text")
    request.add_argument("--json-file", metavar="PATH", help="a file that holds the request")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, change nothing")
    parser.add_argument("--json", action="store_true", help="print the plan of a dry run as JSON")
    options = parser.parse_args(argv)
    if options.json and not options.dry_run:
        parser.error("--json is for --dry-run: what a job does it tells by events")
    return options


def find_request(arguments: argparse.Namespace, settings: UploadSettings) -> str:
    """Find the text of the request.

    Raises
    ------
    RequestError
        Where there is none.
    """
    if arguments.json_args is not None:
        return str(arguments.json_args)
    if arguments.json_file is not None:
        try:
            return Path(arguments.json_file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"{arguments.json_file} cannot be read: {error}") from error
    if settings.upload_json is not None:
        return settings.upload_json
    raise RequestError("no request: give --json-args, --json-file or UPLOAD_JOB_JSON_ARGS")


def read_request(
    text: str, settings: UploadSettings, warn: Callable[[str], None] = logger.warning
) -> BasicUploadJobConfigs:
    """Read a request, its times by the lab's zone.

    Parameters
    ----------
    text : str
        The request in JSON.
    settings : UploadSettings
        How it is read.
    warn : Callable
        Receives a warning for each path that is read as another.

    Raises
    ------
    RequestError
        Where it cannot be read, with everything that is wrong.
    """
    context: dict[str, Any] = {
        "lab_timezone": ZoneInfo(settings.lab_timezone),
        "date_order": "MDY",
        "allowed_buckets": settings.allowed_buckets,
        "processor_optional": True,  # whether it is, the service has decided
        "path_mappings": settings.path_mappings,
        "names_platform": settings.names_platform,
        "is_recorded": settings.upload_recorded,
    }
    if settings.upload_asset is not None:
        context["asset_name"] = settings.upload_asset
    if not settings.upload_recorded:
        context["bucket_names"] = settings.bucket_names
    try:
        config = read_config(text, context)
    except ValidationError as error:
        raise RequestError("; ".join(explain(error))) from error
    for location, words in path_warnings(config, json.loads(text)):
        warn(f"{dotted(location)}: {words}")
    return config
