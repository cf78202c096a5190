"""Code Ocean: an uploaded prefix becomes a data asset there, and a capsule or pipeline runs on it.

Everything looks first at what is there already, so that it may be done again at any time: after an
answer that was lost, by a job that was queued again, by a person who presses a button twice.

Facts: https://docs.codeocean.com/user-guide/code-ocean-api and the package `codeocean` itself. To
import this module takes a while, since it imports that: it is done where it is needed.
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
from aind_data_transfer_service.errors import AfterwardsError, NotNow
from aind_data_transfer_service.post_upload.http_deadline import BoundedAdapter
from aind_data_transfer_service.post_upload.states import Analysis, AnalysisState
from aind_data_transfer_service.redaction import on_a_line
from aind_data_transfer_service.settings.post_upload import AfterwardsSettings

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 8.0
_SKEW = timedelta(seconds=60)
_SHOWN = 200
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
A = TypeVar("A")


class NotFound(AfterwardsError):
    """Code Ocean has nothing of that id."""


class _NotReady(NotNow):
    """Code Ocean has yet to take the asset in."""


@dataclass(frozen=True)
class Wanted:
    """What is to be done in Code Ocean."""

    name: str
    """The asset's, which is its prefix in the bucket too."""
    bucket: str
    tags: tuple[str, ...]
    capsule_id: str
    """The capsule or pipeline to run; empty for none."""
    since: datetime
    """A computation that began earlier is not this job's."""


def wanted_of(config: BasicUploadJobConfigs, location: str, since: datetime) -> Wanted:
    """Return what a request asks of Code Ocean, for the asset at a location in a bucket."""
    place = urlsplit(location)
    kinds = [modality.modality.abbreviation for modality in config.modalities]
    tags = ["raw", config.platform.abbreviation, *kinds, config.subject_id, config.project_name]
    return Wanted(
        place.path.strip("/"),
        place.netloc,
        tuple(dict.fromkeys(tag for tag in tags if tag)),
        config.process_capsule_id or "",
        since,
    )


@dataclass(frozen=True)
class Patience:
    """How long Code Ocean is asked. Clock and sleep are passed in, so that tests need not wait."""

    seconds: float
    clock: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], object] = field(default=time.sleep)


class CodeOcean:
    """Asks Code Ocean, for a limited time from its making on; a context manager.

    Parameters
    ----------
    settings : AfterwardsSettings
        Where it is, and the token.
    patience : Patience
        How long it is asked in all.
    """

    def __init__(self, settings: AfterwardsSettings, patience: Patience):
        self._domain = (settings.codeocean_domain or "").rstrip("/")
        token = settings.codeocean_token
        self._patience = patience
        self._until = patience.clock() + patience.seconds
        self._sdk = Sdk(domain=self._domain, token=token.get_secret_value() if token else "")
        self._sdk.session.mount(self._domain, BoundedAdapter(self.left))
        self._sdk.session.max_redirects = 0

    def __enter__(self) -> "CodeOcean":
        return self

    def __exit__(self, *_: object) -> None:
        self._sdk.session.close()

    def left(self) -> float:
        """Tell how many seconds there are left."""
        return self._until - self._patience.clock()

    def check(self, capsule_id: str) -> None:
        """Make sure that the token is accepted, and that the capsule or pipeline is there.

        Raises
        ------
        AfterwardsError
            Where something is amiss.
        """
        if capsule_id:
            self._insist(lambda: self._capsule(capsule_id))
        params = DataAssetSearchParams(limit=1)
        self._insist(lambda: self._ask(lambda: self._sdk.data_assets.search_data_assets(params)))

    def analyse(self, wanted: Wanted) -> Analysis:
        """Register an asset, and start what is to run on it; go on from what is there already.

        Never raises what Code Ocean is to blame for: the answer says what went wrong, and what was
        reached before that.
        """
        done = Analysis(AnalysisState.PENDING)
        try:
            done = self._insist(lambda: self._registered(wanted))
            self._insist(lambda: self._taken_in(done.data_asset_id))
            if not wanted.capsule_id:
                return replace(done, state=AnalysisState.REGISTERED)
            return self._insist(lambda: self._started(wanted, done))
        except _NotReady as error:
            return replace(done, state=AnalysisState.WAITING, reason=str(error))
        except AfterwardsError as error:
            return replace(done, state=AnalysisState.FAILED, reason=str(error))

    def takes_in(self, data_asset_id: str) -> bool:
        """Tell whether Code Ocean has yet to take an asset in.

        Raises
        ------
        AfterwardsError
            Where that cannot be found out.
        """
        found = self._ask(lambda: self._sdk.data_assets.get_data_asset(data_asset_id))
        return found.state not in (DataAssetState.Ready, DataAssetState.Failed)

    def look_at(self, analysis: Analysis) -> Analysis:
        """Tell how a computation stands.

        Raises
        ------
        AfterwardsError
            Where that cannot be found out.
        """
        computations = self._sdk.computations
        found = self._ask(lambda: computations.get_computation(analysis.computation_id))
        return _standing(analysis, found)

    def _registered(self, wanted: Wanted) -> Analysis:
        """Find the asset among the data assets, or make it one."""
        found = self._find(wanted)
        if found is None:
            source = AWSS3Source(
                bucket=wanted.bucket, prefix=wanted.name, keep_on_external_storage=True
            )
            params = DataAssetParams(
                name=wanted.name,
                tags=list(wanted.tags),
                mount=wanted.name,
                source=Source(aws=source),
            )
            found = self._ask(lambda: self._sdk.data_assets.create_data_asset(params))
        return Analysis(
            AnalysisState.PENDING,
            data_asset_id=found.id,
            data_asset_link=f"{self._domain}/data-assets/{found.id}",
        )

    def _find(self, wanted: Wanted) -> DataAsset | None:
        """Find the data asset of a prefix, where there is one that has not failed."""
        params = DataAssetSearchParams(query=f'name:"{wanted.name}"', limit=100)
        search = self._sdk.data_assets.search_data_assets_iterator
        return self._ask(lambda: next((a for a in search(params) if _is_of(a, wanted)), None))

    def _taken_in(self, data_asset_id: str) -> None:
        """Make sure that Code Ocean has taken the asset in."""
        found = self._ask(lambda: self._sdk.data_assets.get_data_asset(data_asset_id))
        if found.state == DataAssetState.Failed:
            why = self._shown(found.failure_reason or "it gives no reason")
            raise AfterwardsError(f"Code Ocean could not take the asset in: {why}")
        if found.state != DataAssetState.Ready:
            raise _NotReady("Code Ocean is still taking the asset in")

    def _started(self, wanted: Wanted, done: Analysis) -> Analysis:
        """Find what runs on the asset, or start it."""
        capsule, kind = self._capsule(wanted.capsule_id)
        routes = self._sdk.capsules if kind == "capsule_id" else self._sdk.pipelines
        listed = self._ask(lambda: routes.list_computations(capsule.id))
        known = [one for one in listed if _is_for(one, done.data_asset_id, wanted.since)]
        found = max(known, key=lambda one: one.created, default=None)
        if found is None:
            attached = [DataAssetsRunParam(id=done.data_asset_id, mount=wanted.name)]
            params = RunParams(**{kind: capsule.id}, data_assets=attached)
            found = self._ask(lambda: self._sdk.computations.run_capsule(params))
        started = replace(
            done,
            computation_id=found.id,
            computation_link=f"{self._domain}/capsule/{capsule.slug}/tree",
        )
        return _standing(started, found)

    def _capsule(self, capsule_id: str) -> tuple[Capsule, str]:
        """Find a capsule or a pipeline, and say which of them it is."""
        if not _ID.fullmatch(capsule_id):
            raise AfterwardsError(
                f'process_capsule_id: "{capsule_id[:100]}" is no id of a capsule or pipeline'
            )
        try:
            return self._ask(lambda: self._sdk.capsules.get_capsule(capsule_id)), "capsule_id"
        except NotFound:
            pass  # perhaps it is a pipeline
        try:
            return self._ask(lambda: self._sdk.pipelines.get_pipeline(capsule_id)), "pipeline_id"
        except NotFound:
            raise AfterwardsError(
                f"process_capsule_id: Code Ocean knows neither capsule nor pipeline {capsule_id}, "
                "or CODEOCEAN_TOKEN may not see it"
            ) from None

    def _insist(self, work: Callable[[], A]) -> A:
        """Do something again while that may help and there is time."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return work()
            except NotNow as error:
                wait = max(pause, error.wait)
                if wait >= self.left():
                    raise
            self._patience.sleep(wait)
            pause = min(_LONGEST_PAUSE, pause * 2)

    def _ask(self, question: Callable[[], A]) -> A:
        """Put one question, and say in words what goes wrong."""
        here = f"Code Ocean at {urlsplit(self._domain).netloc}"
        try:
            return question()
        except Error as error:
            raise self._refusal(here, error) from None
        except requests.Timeout:
            raise NotNow(f"{here} did not answer in time") from None
        except requests.TooManyRedirects:
            raise AfterwardsError(
                f"{here} sends us elsewhere; look whether CODEOCEAN_DOMAIN is right"
            ) from None
        except requests.exceptions.SSLError:
            raise AfterwardsError(f"{here} shows a certificate that is not trusted") from None
        except (requests.exceptions.InvalidJSONError, *_MALFORMED):
            raise AfterwardsError(
                f"{here} answered something that is not understood; look whether CODEOCEAN_DOMAIN "
                "is right and no login page stands before it"
            ) from None
        except requests.RequestException:
            raise NotNow(f"{here} cannot be reached, or broke off its answer") from None

    def _refusal(self, here: str, error: Error) -> AfterwardsError:
        """Say why Code Ocean refused."""
        status = error.status_code
        if status == 404:
            return NotFound(f"{here} has no such thing (404)")
        if status == 401:
            return AfterwardsError(f"{here} does not accept CODEOCEAN_TOKEN (401)")
        if status == 403:
            return AfterwardsError(f"{here} does not let CODEOCEAN_TOKEN do this (403)")
        if status == 429 or status >= 500:
            after = error.http_err.response.headers.get("Retry-After", "")
            wait = float(after) if after.isascii() and after.isdigit() else 0.0
            asks = f" and asks to wait {wait:g} s" if wait else ""
            return NotNow(f"{here} is not able to answer now ({status}){asks}", wait)
        return AfterwardsError(f"{here} refuses ({status}): {self._shown(error.message)}")

    def _shown(self, text: Any) -> str:
        """Fit what Code Ocean says onto a line."""
        return on_a_line("".join(c if c.isprintable() else " " for c in str(text)), _SHOWN)


_MALFORMED = (KeyError, TypeError, ValueError, AttributeError)
"""What the SDK raises where an answer is not as it should be."""


def _is_of(found: DataAsset, wanted: Wanted) -> bool:
    """Tell whether a data asset is the one of this prefix, and of use."""
    source = found.source_bucket
    return (
        found.name == wanted.name
        and found.state != DataAssetState.Failed
        and source is not None
        and source.bucket == wanted.bucket
        and (source.prefix or "").strip("/") == wanted.name
    )


def _is_for(computation: Computation, data_asset_id: str, since: datetime) -> bool:
    """Tell whether a computation is the one that this job started on its asset, and of use."""
    attached = [one.id for one in computation.data_assets or ()]
    return (
        data_asset_id in attached
        and computation.created >= (since - _SKEW).timestamp()
        and not _has_failed(computation)
    )


def _has_failed(computation: Computation) -> bool:
    """Tell whether a computation has come to a bad end."""
    bad = (ComputationEndStatus.Failed, ComputationEndStatus.Stopped)
    return computation.state == ComputationState.Failed or computation.end_status in bad


def _standing(analysis: Analysis, computation: Computation) -> Analysis:
    """Say how an analysis stands by its computation."""
    if _has_failed(computation):
        how = "was stopped" if computation.end_status == ComputationEndStatus.Stopped else "failed"
        code = computation.exit_code
        reason = f"the computation {how}" + (f" (exit code {code})" if code else "")
        return replace(analysis, state=AnalysisState.FAILED, reason=reason)
    if computation.state == ComputationState.Completed:
        return replace(analysis, state=AnalysisState.COMPLETED, reason="")
    return replace(analysis, state=AnalysisState.RUNNING, reason="")
