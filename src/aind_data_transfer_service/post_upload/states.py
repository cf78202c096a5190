"""States of the steps after an upload, and how they are read from events."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit


class AnalysisState(StrEnum):
    """The state of an asset in Code Ocean."""

    PENDING = "PENDING"
    """The request to Code Ocean is in progress."""
    WAITING = "WAITING"
    """The data asset is registered; Code Ocean is still ingesting it."""
    REGISTERED = "REGISTERED"
    """The data asset is ready. The job names no capsule to run."""
    RUNNING = "RUNNING"
    """A capsule or pipeline is running on the data asset."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class RegistrationState(StrEnum):
    """The state of the registration."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Analysis:
    """The result of registering and analysing an asset in Code Ocean."""

    state: AnalysisState
    reason: str = ""
    """One line, if there is a reason to report."""
    data_asset_id: str = ""
    data_asset_link: str = ""
    computation_id: str = ""
    computation_link: str = ""

    def values(self) -> dict[str, str]:
        """Return the fields of a job's record and of an event."""
        return {
            "analysis": self.state.value,
            "analysis_reason": self.reason,
            "data_asset_id": self.data_asset_id,
            "data_asset_link": self.data_asset_link,
            "computation_id": self.computation_id,
            "computation_link": self.computation_link,
        }


@dataclass(frozen=True)
class Registration:
    """The result of the registration."""

    state: RegistrationState
    reason: str = ""

    def values(self) -> dict[str, str]:
        """Return the fields of a job's record and of an event."""
        return {"registration": self.state.value, "registration_reason": self.reason}


POST_UPLOAD_STEPS: dict[str, type[AnalysisState] | type[RegistrationState]] = {
    "analysis": AnalysisState,
    "registration": RegistrationState,
}
"""The steps of a job after the asset is complete, and the states of each."""
_IDS = frozenset({"data_asset_id", "computation_id"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_MAX_REASON_LENGTH = 500


def status_from_event(step: str, kind: str, figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields of a job's record that an event of one of these steps sets.

    A custom script can write events too. Values that are not valid states, IDs or links are
    ignored.

    Parameters
    ----------
    step, kind : str
        The step and the kind of the event.
    figures : Mapping[str, Any]
        The data of the event.
    """
    states = POST_UPLOAD_STEPS.get(step)
    if states is None:
        return {}
    if kind == "start":
        return {step: states.PENDING.value, f"{step}_reason": ""}
    if figures.get(step) not in list(states):
        return {}
    empty = (
        Analysis(AnalysisState.PENDING)
        if step == "analysis"
        else Registration(RegistrationState.PENDING)
    )
    return {name: _clean(name, figures.get(name)) for name in empty.values()}


def _clean(name: str, value: Any) -> str:
    """Return a value if it is valid, else an empty text."""
    if not isinstance(value, str):
        return ""
    if name in _IDS:
        return value if _ID.fullmatch(value) else ""
    if name.endswith("_link"):
        return value if _is_link(value) else ""
    return value[:_MAX_REASON_LENGTH]


def _is_link(value: str) -> bool:
    """Return whether pages may link to an address."""
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and len(value) <= 2000
    except ValueError:
        return False


NO_CODE_OCEAN = "Code Ocean is not configured (CODEOCEAN_DOMAIN, CODEOCEAN_TOKEN)"
NO_BUCKET = "the asset is in a local folder; Code Ocean can register assets in buckets only"
