"""Which source is asked for which document, in which order, and what a missing one means."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from aind_data_transfer_service.configs.vocabulary import nearest, quoted
from aind_data_transfer_service.settings.environment import EnvironmentSettings
from aind_data_transfer_service.settings.sources import (
    LabtracksSettings,
    SharePointSettings,
    SlimsSettings,
    TarsSettings,
)

SOURCES = {
    "subject": ("service", "labtracks", "folder"),
    "procedures": ("service", "sharepoint", "folder", "tars"),
    "instrument": ("service", "slims", "folder"),
    "rig": ("service", "slims", "folder"),
    "funding": ("service", "folder"),
    "project_names": ("service", "folder"),
}
"""Who can tell what, in the order in which they are asked where nothing else is said: the
metadata service, then the system that a thing lives in, then files. TARS has no procedures of its
own, it completes those of the others."""
ENRICHES = "tars"


class Policy(StrEnum):
    """What it means that a document is not to be had."""

    REQUIRE = "require"
    """The job fails."""
    WARN = "warn"
    """The job warns."""
    IGNORE = "ignore"
    """Nobody is told but the asset's record."""


def _split(value: Any) -> Any:
    """Take names that are separated by commas, in the order in which they are written."""
    if isinstance(value, str):
        value = [part.strip().lower() for part in value.split(",") if part.strip()]
    return tuple(dict.fromkeys(value)) if isinstance(value, list | tuple) else value


def _absolute(value: Path) -> Path:
    """Refuse a folder whose meaning depends on where the process stands."""
    if not value.is_absolute():
        raise ValueError(f'"{value}" is no absolute path; write one such as /shared/metadata')
    return value


def _policy(value: Any) -> Any:
    """Take a policy in any case, and name them all where it is none."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word not in set(Policy):
        raise ValueError(f"{quoted(value)} is no policy; write {', '.join(Policy)}")
    return Policy(word)


Order = Annotated[tuple[str, ...] | None, BeforeValidator(_split)]
OnMissing = Annotated[Policy, BeforeValidator(_policy)]


class MetadataSettings(EnvironmentSettings):
    """Which source is asked for which document, and what a missing one means."""

    prefix = "METADATA_"
    constants = frozenset({"time_limit"})

    folder: Annotated[Path, AfterValidator(_absolute)] | None = None
    """A folder of the lab's documents by id: `subject/690165.json`, `rig/…`, and so on."""
    subject: Order = None
    """Whom to ask for subjects, the first that knows one gives it; without it, everyone."""
    procedures: Order = None
    """Whom to ask for procedures; what they tell is put together."""
    instrument: Order = None
    rig: Order = None
    funding: Order = None
    """Whom to ask how a project is funded."""
    project_names: Order = None
    """Whom to ask which projects there are, when a job is submitted."""
    policy_subject: OnMissing | None = None
    """Where nothing is said: require, once a source is configured that ought to know subjects."""
    policy_procedures: OnMissing = Policy.WARN
    policy_instrument: OnMissing = Policy.WARN
    policy_rig: OnMissing = Policy.WARN
    policy_funding: OnMissing = Policy.WARN
    time_limit: float = Field(default=60.0, gt=0, le=3600)
    """Seconds that all questions of one job may take together."""

    @field_validator(*SOURCES)
    @classmethod
    def _known(cls, value: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        """Refuse what is no source, and a source that has no such document."""
        if value is None:
            return None
        kind = str(info.field_name)
        known = SOURCES[kind]
        wrong = [name for name in value if name not in known]
        if wrong:
            near = nearest(wrong[0], known)
            hint = f"; did you mean {near}?" if near else ""
            listed = ", ".join(quoted(name) for name in wrong)
            verb = "is no source" if len(wrong) == 1 else "are no sources"
            raise ValueError(f"{listed} {verb} of {kind}; there are {', '.join(known)}{hint}")
        if not set(value) - {ENRICHES}:
            raise ValueError(f"no source is named; there are {', '.join(known)}")
        return value

    def order_of(self, kind: str) -> tuple[str, ...]:
        """Name the sources of a document in their order, whether or not they are configured."""
        return getattr(self, kind) or SOURCES[kind]

    def policy_of(self, kind: str, ought_to_be_known: bool) -> Policy:
        """Tell what it means that there is no such document.

        Parameters
        ----------
        kind : str
            The document.
        ought_to_be_known : bool
            Whether there is any source that could have had it.
        """
        policy = getattr(self, f"policy_{kind}")
        if policy is None:
            return Policy.REQUIRE if ought_to_be_known else Policy.WARN
        return policy


class LabSettings(EnvironmentSettings):
    """All that is known of the systems that metadata come from."""

    choice: MetadataSettings = Field(default_factory=MetadataSettings)
    labtracks: LabtracksSettings = Field(default_factory=LabtracksSettings)
    sharepoint: SharePointSettings = Field(default_factory=SharePointSettings)
    tars: TarsSettings = Field(default_factory=TarsSettings)
    slims: SlimsSettings = Field(default_factory=SlimsSettings)

    def environment(self) -> dict[str, str]:
        """Write out the variables of the configured systems, their secrets among them."""
        systems = (self.labtracks, self.sharepoint, self.tars, self.slims)
        found = dict(_variables(self.choice))
        for system in systems:
            if system.is_set:
                found |= dict(_variables(system))
        return found


def _variables(settings: EnvironmentSettings) -> Iterator[tuple[str, str]]:
    """Write settings as the environment has them, as far as anything was said."""
    variables = settings.variables()
    for name in sorted(settings.model_fields_set):
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, tuple):
            value = ",".join(value)
        if value is not None and name in variables:
            yield variables[name], str(value)
