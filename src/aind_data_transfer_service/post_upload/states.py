"""How it stands with what follows an upload. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit


class AnalysisState(StrEnum):
    """How it stands with an asset in Code Ocean."""

    PENDING = "PENDING"
    """Code Ocean is being asked at this moment."""
    WAITING = "WAITING"
    """It is registered, and Code Ocean has yet to take it in."""
    REGISTERED = "REGISTERED"
    """It is a data asset, and nothing was to run."""
    RUNNING = "RUNNING"
    """A capsule or pipeline runs on it."""
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class RegistrationState(StrEnum):
    """How it stands with the hook for registration."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Analysis:
    """What became of an asset in Code Ocean."""

    state: AnalysisState
    reason: str = ""
    """One line, where there is something to say."""
    data_asset_id: str = ""
    data_asset_link: str = ""
    computation_id: str = ""
    computation_link: str = ""

    def values(self) -> dict[str, str]:
        """Write it as a job's record has it, and as events tell it."""
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
    """What became of the registration."""

    state: RegistrationState
    reason: str = ""

    def values(self) -> dict[str, str]:
        """Write it as a job's record has it, and as events tell it."""
        return {"registration": self.state.value, "registration_reason": self.reason}


STEPS: dict[str, type[AnalysisState] | type[RegistrationState]] = {
    "analysis": AnalysisState,
    "registration": RegistrationState,
}
"""The steps of a job that come when the asset is whole, and the states that they tell."""
_IDS = frozenset({"data_asset_id", "computation_id"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
_LONGEST_REASON = 500


def told_values(step: str, kind: str, figures: Mapping[str, Any]) -> dict[str, str]:
    """Read what an event tells of these steps, as values of a job's record.

    A user's own script can write events as well: so nothing is taken that is no state, no id, or
    no link that a page may show.
    """
    states = STEPS.get(step)
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
    """Take one value, or nothing in its stead."""
    if not isinstance(value, str):
        return ""
    if name in _IDS:
        return value if _ID.fullmatch(value) else ""
    if name.endswith("_link"):
        return value if _is_link(value) else ""
    return value[:_LONGEST_REASON]


def _is_link(value: str) -> bool:
    """Tell whether a page may link there."""
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and len(value) <= 2000
    except ValueError:
        return False


NO_CODE_OCEAN = "no Code Ocean is named (CODEOCEAN_DOMAIN, CODEOCEAN_TOKEN)"
NO_BUCKET = "the asset lies in a folder, and Code Ocean takes buckets alone"
