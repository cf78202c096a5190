"""Code Ocean: register an uploaded asset as a data asset, and run a capsule or pipeline on it.

All operations are idempotent. Each first looks for an existing data asset or computation, so that
it can be repeated after a lost response, by a requeued job, or by a user who clicks a button twice.

API reference: https://docs.codeocean.com/user-guide/code-ocean-api and the package `codeocean`.
This module imports that package, which is slow: import it only where it is used.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from codeocean import CodeOcean as Sdk
from codeocean.capsule import Capsule
from codeocean.computation import (
    Computation,
    ComputationEndStatus,
    ComputationState,
    DataAssetsRunParam,
    RunParams,
)
from codeocean.data_asset import (
    AWSS3Source,
    DataAsset,
    DataAssetParams,
    DataAssetSearchParams,
    DataAssetState,
    Source,
)
from codeocean.error import Error

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import PostUploadError, RetryableError
from aind_data_transfer_service.post_upload.http_deadline import DeadlineAdapter
from aind_data_transfer_service.post_upload.states import Analysis, AnalysisState
from aind_data_transfer_service.redaction import on_a_line
from aind_data_transfer_service.settings.post_upload import PostUploadSettings

_INITIAL_BACKOFF = 1.0
_MAX_BACKOFF = 8.0
_CLOCK_SKEW = timedelta(seconds=60)
_MAX_MESSAGE_LENGTH = 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
A = TypeVar("A")


class NotFound(PostUploadError):
    """Code Ocean has no object with this id."""


class _NotReadyError(RetryableError):
    """Code Ocean has not ingested the data asset yet."""


@dataclass(frozen=True)
class AnalysisRequest:
    """The data asset to register, and the capsule or pipeline to run on it."""

    name: str
    """The name of the asset, which is also its prefix in the bucket."""
    bucket: str
    tags: tuple[str, ...]
    capsule_id: str
    """The capsule or pipeline to run; empty for none."""
    since: datetime
    """When the job was submitted. Computations created earlier belong to other jobs."""

    @classmethod
    def from_config(
        cls, config: BasicUploadJobConfigs, location: str, since: datetime
    ) -> "AnalysisRequest":
        """Return the request of a job.

        Parameters
        ----------
        config : BasicUploadJobConfigs
            The upload settings of the job.
        location : str
            The URI of the asset, in a bucket.
        since : datetime
            When the job was submitted.
        """
        uri = urlsplit(location)
        modalities = [modality.modality.abbreviation for modality in config.modalities]
        tags = [
            *("raw", config.platform.abbreviation, *modalities),
            *(config.subject_id, config.project_name),
        ]
        return cls(
            uri.path.strip("/"),
            uri.netloc,
            tuple(dict.fromkeys(tag for tag in tags if tag)),
            config.process_capsule_id or "",
            since,
        )


@dataclass(frozen=True)
class Deadline:
    """The time limit of a session. Tests pass in a clock and a sleep function."""

    seconds: float
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], object] = field(default=time.sleep)


class CodeOcean:
    """A session with Code Ocean that has a time limit; use it as a context manager.

    Parameters
    ----------
    settings : PostUploadSettings
        The address and the access token.
    timing : Deadline
        The time limit of all calls together.
    """

    def __init__(self, settings: PostUploadSettings, timing: Deadline):
        self._domain = (settings.codeocean_domain or "").rstrip("/")
        token = settings.codeocean_token
        self._timing = timing
        self._deadline = timing.clock() + timing.seconds
        self._sdk = Sdk(domain=self._domain, token=token.get_secret_value() if token else "")
        self._sdk.session.mount(self._domain, DeadlineAdapter(self.remaining))
        self._sdk.session.max_redirects = 0

    def __enter__(self) -> "CodeOcean":
        return self

    def __exit__(self, *_: object) -> None:
        self._sdk.session.close()

    def remaining(self) -> float:
        """Return how many seconds remain."""
        return self._deadline - self._timing.clock()

    def check_access(self, capsule_id: str) -> None:
        """Check that the token is accepted, and that the capsule or pipeline exists.

        Parameters
        ----------
        capsule_id : str
            The capsule or pipeline; empty for none.

        Raises
        ------
        PostUploadError
            If one of the checks fails.
        """
        if capsule_id:
            self._retry(lambda: self._capsule(capsule_id))
        params = DataAssetSearchParams(limit=1)
        self._retry(lambda: self._call(lambda: self._sdk.data_assets.search_data_assets(params)))

    def run_analysis(self, request: AnalysisRequest) -> Analysis:
        """Register a data asset and start its computation, unless they exist already.

        Errors of Code Ocean are not raised. The result holds the reason, and the steps that
        succeeded before the error.
        """
        done = Analysis(AnalysisState.PENDING)
        try:
            done = self._retry(lambda: self._find_or_register(request))
            self._retry(lambda: self._require_ready(done.data_asset_id))
            if not request.capsule_id:
                return replace(done, state=AnalysisState.REGISTERED)
            return self._retry(lambda: self._find_or_start(request, done))
        except _NotReadyError as error:
            return replace(done, state=AnalysisState.WAITING, reason=str(error))
        except PostUploadError as error:
            return replace(done, state=AnalysisState.FAILED, reason=str(error))

    def is_ingesting(self, data_asset_id: str) -> bool:
        """Return whether Code Ocean is still ingesting a data asset.

        Raises
        ------
        PostUploadError
            If Code Ocean does not return the state.
        """
        found = self._call(lambda: self._sdk.data_assets.get_data_asset(data_asset_id))
        return found.state not in (DataAssetState.Ready, DataAssetState.Failed)

    def poll(self, analysis: Analysis) -> Analysis:
        """Return an analysis with the current state of its computation.

        Raises
        ------
        PostUploadError
            If Code Ocean does not return the state.
        """
        computations = self._sdk.computations
        found = self._call(lambda: computations.get_computation(analysis.computation_id))
        return _with_state(analysis, found)

    def _find_or_register(self, request: AnalysisRequest) -> Analysis:
        """Return the data asset; register it if it does not exist."""
        found = self._find(request)
        if found is None:
            source = AWSS3Source(
                bucket=request.bucket, prefix=request.name, keep_on_external_storage=True
            )
            params = DataAssetParams(
                name=request.name,
                tags=list(request.tags),
                mount=request.name,
                source=Source(aws=source),
            )
            found = self._call(lambda: self._sdk.data_assets.create_data_asset(params))
        return Analysis(
            AnalysisState.PENDING,
            data_asset_id=found.id,
            data_asset_link=f"{self._domain}/data-assets/{found.id}",
        )

    def _find(self, request: AnalysisRequest) -> DataAsset | None:
        """Return the data asset of a prefix, unless its ingestion failed; None if there is none."""
        params = DataAssetSearchParams(query=f'name:"{request.name}"', limit=100)
        search = self._sdk.data_assets.search_data_assets_iterator
        return self._call(
            lambda: next((a for a in search(params) if _is_data_asset_of(a, request)), None)
        )

    def _require_ready(self, data_asset_id: str) -> None:
        """Raise an error unless Code Ocean has ingested the data asset."""
        found = self._call(lambda: self._sdk.data_assets.get_data_asset(data_asset_id))
        if found.state == DataAssetState.Failed:
            why = self._excerpt(found.failure_reason or "no reason given")
            raise PostUploadError(f"Code Ocean could not ingest the data asset: {why}")
        if found.state != DataAssetState.Ready:
            raise _NotReadyError("Code Ocean is still ingesting the data asset")

    def _find_or_start(self, request: AnalysisRequest, done: Analysis) -> Analysis:
        """Return the computation of the asset; start it if there is none."""
        capsule, kind = self._capsule(request.capsule_id)
        routes = self._sdk.capsules if kind == "capsule_id" else self._sdk.pipelines
        listed = self._call(lambda: routes.list_computations(capsule.id))
        known = [
            one for one in listed if _is_computation_of(one, done.data_asset_id, request.since)
        ]
        found = max(known, key=lambda one: one.created, default=None)
        if found is None:
            attached = [DataAssetsRunParam(id=done.data_asset_id, mount=request.name)]
            params = RunParams(**{kind: capsule.id}, data_assets=attached)
            found = self._call(lambda: self._sdk.computations.run_capsule(params))
        started = replace(
            done,
            computation_id=found.id,
            computation_link=f"{self._domain}/capsule/{capsule.slug}/tree",
        )
        return _with_state(started, found)

    def _capsule(self, capsule_id: str) -> tuple[Capsule, str]:
        """Return a capsule or pipeline, and the name of its parameter."""
        if not _ID.fullmatch(capsule_id):
            raise PostUploadError(
                f'process_capsule_id: "{capsule_id[:100]}" is not a valid ID of a capsule or '
                "pipeline"
            )
        try:
            return self._call(lambda: self._sdk.capsules.get_capsule(capsule_id)), "capsule_id"
        except NotFound:
            pass  # it may be a pipeline
        try:
            return self._call(lambda: self._sdk.pipelines.get_pipeline(capsule_id)), "pipeline_id"
        except NotFound:
            raise PostUploadError(
                f"process_capsule_id: Code Ocean has no capsule or pipeline {capsule_id}, or "
                "CODEOCEAN_TOKEN has no access to it"
            ) from None

    def _retry(self, work: Callable[[], A]) -> A:
        """Call a function; on a temporary error repeat it until the time is up."""
        backoff = _INITIAL_BACKOFF
        while True:
            try:
                return work()
            except RetryableError as error:
                wait = max(backoff, error.wait)
                if wait >= self.remaining():
                    raise
            self._timing.sleep(wait)
            backoff = min(_MAX_BACKOFF, backoff * 2)

    def _call(self, function: Callable[[], A]) -> A:
        """Call the API once; raise its errors with a message for users."""
        server = f"Code Ocean at {urlsplit(self._domain).netloc}"
        try:
            return function()
        except Error as error:
            raise self._error(server, error) from None
        except requests.Timeout:
            raise RetryableError(f"{server} did not respond in time") from None
        except requests.TooManyRedirects:
            raise PostUploadError(f"{server} redirects requests; check CODEOCEAN_DOMAIN") from None
        except requests.exceptions.SSLError:
            raise PostUploadError(f"{server} has a certificate that is not trusted") from None
        except (requests.exceptions.InvalidJSONError, *_MALFORMED_RESPONSE):
            raise PostUploadError(
                f"{server} sent an invalid response; check CODEOCEAN_DOMAIN, and whether a proxy "
                "answers with a login page"
            ) from None
        except requests.RequestException:
            raise RetryableError(f"{server} is unreachable, or closed the connection") from None

    def _error(self, server: str, error: Error) -> PostUploadError:
        """Return the exception for an error response."""
        status = error.status_code
        if status == 404:
            return NotFound(f"{server} does not have this object (404)")
        if status == 401:
            return PostUploadError(f"{server} does not accept CODEOCEAN_TOKEN (401)")
        if status == 403:
            return PostUploadError(f"{server}: CODEOCEAN_TOKEN has no permission for this (403)")
        if status == 429 or status >= 500:
            header = error.http_err.response.headers.get("Retry-After", "")
            wait = float(header) if header.isascii() and header.isdigit() else 0.0
            hint = f"; it asks to wait {wait:g} s" if wait else ""
            return RetryableError(f"{server} is unavailable ({status}){hint}", wait)
        return PostUploadError(
            f"{server} rejected the request ({status}): {self._excerpt(error.message)}"
        )

    def _excerpt(self, text: Any) -> str:
        """Return the text of a response as one short line."""
        return on_a_line(
            "".join(c if c.isprintable() else " " for c in str(text)), _MAX_MESSAGE_LENGTH
        )


_MALFORMED_RESPONSE = (KeyError, TypeError, ValueError, AttributeError)
"""What the SDK raises if a response does not have the expected form."""


def _is_data_asset_of(found: DataAsset, request: AnalysisRequest) -> bool:
    """Return whether a data asset has the prefix of a request, and has not failed."""
    source = found.source_bucket
    return (
        found.name == request.name
        and found.state != DataAssetState.Failed
        and source is not None
        and source.bucket == request.bucket
        and (source.prefix or "").strip("/") == request.name
    )


def _is_computation_of(computation: Computation, data_asset_id: str, since: datetime) -> bool:
    """Return whether this job started a computation on its data asset, and it has not failed."""
    attached = [one.id for one in computation.data_assets or ()]
    return (
        data_asset_id in attached
        and computation.created >= (since - _CLOCK_SKEW).timestamp()
        and not _has_failed(computation)
    )


def _has_failed(computation: Computation) -> bool:
    """Return whether a computation failed or was stopped."""
    failures = (ComputationEndStatus.Failed, ComputationEndStatus.Stopped)
    return computation.state == ComputationState.Failed or computation.end_status in failures


def _with_state(analysis: Analysis, computation: Computation) -> Analysis:
    """Return an analysis with the state of its computation."""
    if _has_failed(computation):
        how = "was stopped" if computation.end_status == ComputationEndStatus.Stopped else "failed"
        code = computation.exit_code
        reason = f"the computation {how}" + (f" (exit code {code})" if code else "")
        return replace(analysis, state=AnalysisState.FAILED, reason=reason)
    if computation.state == ComputationState.Completed:
        return replace(analysis, state=AnalysisState.COMPLETED, reason="")
    return replace(analysis, state=AnalysisState.RUNNING, reason="")
