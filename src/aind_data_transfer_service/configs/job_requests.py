"""Reading the jobs of an API request: JSON texts in, models and errors out."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from aind_data_transfer_service.configs import error_messages
from aind_data_transfer_service.configs.datetimes import DateOrder
from aind_data_transfer_service.configs.duplicates import AssetRegister
from aind_data_transfer_service.configs.job_configs import (
    BasicUploadJobConfigs,
    ReadingContext,
    path_warnings,
)
from aind_data_transfer_service.configs.limits import MAX_COUNTED_ERRORS
from aind_data_transfer_service.configs.vocabulary import quoted


class ParsedJobs(NamedTuple):
    """The good jobs of a request in their order, and what is wrong with the others."""

    configs: list[BasicUploadJobConfigs]
    errors: list[str]


def parse_jobs(
    texts: Sequence[str],
    lab_timezone: ZoneInfo | None = None,
    date_order: DateOrder = "MDY",
    numbers: Sequence[int] | None = None,
    allowed_buckets: Collection[str] = (),
    bucket_names: Mapping[str, str] | None = None,
    processor_optional: bool = False,
    path_mappings: Mapping[str, str] | None = None,
    warn: Callable[[int, str], None] = lambda number, text: None,
    names_platform: bool = True,
    asset_names: Mapping[int, str] | None = None,
) -> ParsedJobs:
    """Read the jobs of a request, each the JSON text of a `BasicUploadJobConfigs`.

    Parameters
    ----------
    texts : Sequence[str]
        A JSON text a job.
    lab_timezone : ZoneInfo | None
        The lab's zone, to whose wall clock times with an offset are converted.
    date_order : DateOrder
        How dates with slashes are read.
    numbers : Sequence[int] | None
        What the jobs are called in errors; by default 1, 2, 3 …
    allowed_buckets : Collection[str]
        The buckets that jobs may upload to, by name or pattern; all if there is none.
    bucket_names : Mapping[str, str] | None
        The buckets behind words such as `private`; without it, a word stays as it is.
    processor_optional : bool
        Whether `processor_full_name` may be absent.
    path_mappings : Mapping[str, str] | None
        Where the cluster has network names and drives of Windows.
    warn : Callable
        Receives warnings about good jobs: the job's number, and a text `job 2, metadata_dir: …`.
    names_platform : bool
        Whether the names of assets begin with the platform.
    asset_names : Mapping[int, str] | None
        The names of assets that are recorded already, by the job's number. Such jobs were accepted
        before, and their values are taken as they are recorded.

    Returns
    -------
    ParsedJobs
        The good ones, and the errors of all jobs: `job 2, modalities.0.source: …`. After
        `MAX_COUNTED_ERRORS` errors the other jobs are not read. Nothing is raised.
    """
    context = ReadingContext(
        lab_timezone=lab_timezone,
        date_order=date_order,
        allowed_buckets=allowed_buckets,
        processor_optional=processor_optional,
        path_mappings=path_mappings,
        names_platform=names_platform,
    )
    if bucket_names is not None:
        context["bucket_names"] = bucket_names
    configs: list[BasicUploadJobConfigs] = []
    errors: list[str] = []
    assets = AssetRegister("job")
    if not texts:
        errors.append("there are no jobs in the request; send at least one")
    for number, text in zip(numbers or range(1, len(texts) + 1), texts, strict=True):
        if len(errors) >= MAX_COUNTED_ERRORS:
            errors.insert(0, stopped(number))
            break
        recorded = (asset_names or {}).get(number, "")
        found = _parse(text, {**context, "asset_name": recorded, "is_recorded": bool(recorded)})
        if isinstance(found, list):
            errors.extend(f"job {number}{line}" for line in found)
            continue
        if problem := assets.add(number, found):
            errors.append(f"job {number}: {problem}")
            continue
        configs.append(found)
        renamed = () if path_mappings is None else path_warnings(found, json.loads(text))
        for at, words in renamed:
            warn(number, f"job {number}, {error_messages.dotted(at)}: {words}")
    return ParsedJobs(configs, errors)


def stopped(number: int) -> str:
    """Return the error of a request whose check stopped before a job."""
    return (
        f"the check stopped before job {number:,}, after {MAX_COUNTED_ERRORS:,} errors; correct "
        "the listed ones first"
    )


def read_config(text: str, context: dict[str, Any]) -> BasicUploadJobConfigs:
    """Read one job from its JSON text.

    Raises
    ------
    ValidationError
        Where it cannot be read; half a character is named in the field that holds it.
    """
    try:
        return BasicUploadJobConfigs.model_validate_json(text, context=context)
    except ValidationError as error:
        if error.errors(include_url=False)[0]["type"] not in ("json_invalid", "string_unicode"):
            raise
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise error from None
        BasicUploadJobConfigs.model_validate(found, context=context)
        raise


def _parse(text: object, context: dict[str, Any]) -> BasicUploadJobConfigs | list[str]:
    """Read one job, or list what is wrong with it, each line as it goes on after `job 2`."""
    if not isinstance(text, str):
        return [f": {quoted(text)} is no text; send the job as a JSON string (model_dump_json)"]
    try:
        return read_config(text, context)
    except ValidationError as error:
        found = error_messages.listed(error)
        return [
            f", {error_messages.dotted(at)}: {words}" if at else f": {words}" for at, words in found
        ]
