"""Which source is asked for which document, in which order, and what a missing one means."""

import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    model_validator,
)

from aind_data_transfer_service.configs.vocabulary import limited_hints, nearest, quoted
from aind_data_transfer_service.plugins import METADATA_SOURCES
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.json_objects import MOST_LISTED, read_object, refuse
from aind_data_transfer_service.settings.plugin_settings import (
    OfPlugins,
    environment_of,
)
from aind_data_transfer_service.settings.schema_generation import Generation

KINDS = ("subject", "procedures", "instrument", "rig", "funding", "project_names")
"""What sources can be asked for."""
ENRICHES = "tars"
"""The source that has no procedures of its own, but completes those of the others."""


def sources_of(kind: str) -> tuple[str, ...]:
    """Name the installed sources of a kind of document, in the order in which they are asked."""
    plugins = METADATA_SOURCES.plugins.items()
    found = [(plugin.rank, name) for name, plugin in plugins if kind in plugin.kinds]
    return tuple(name for _, name in sorted(found))


class Policy(StrEnum):
    """What it means that a document is not to be had."""

    REQUIRE = "require"
    """The job fails."""
    WARN = "warn"
    """The job warns."""
    IGNORE = "ignore"
    """Nobody is told but the asset's record."""


def _absolute(value: Path) -> Path:
    """Refuse a folder whose meaning depends on where the process stands."""
    if not value.is_absolute():
        raise ValueError(f'"{value}" is no absolute path; write one such as /shared/metadata')
    return value


def _policy(value: Any) -> Policy:
    """Take a policy in any case; the error for anything else lists all policies."""
    word = value.strip().lower() if isinstance(value, str) else ""
    if word not in set(Policy):
        raise ValueError(f"{quoted(value)} is not a policy; {_meant(value, Policy)}")
    return Policy(word)


def _generation(value: Any) -> Generation:
    """Take a generation of the schema; the error for anything else lists all of them."""
    word = value.strip() if isinstance(value, str) else ""
    if word not in set(Generation):
        known = ", ".join(Generation)
        raise ValueError(f"{quoted(value)} is not a generation of aind-data-schema; write {known}")
    return Generation(word)


def _meant(value: Any, known: Iterable[str]) -> str:
    """Say what to write, and what was probably meant."""
    near = nearest(value, known) if isinstance(value, str) else None
    return f"write {', '.join(known)}" + (f"; did you mean {near}?" if near else "")


def _read_table(value: Any) -> dict[str, dict[str, Any]]:
    """Read sources and policies by kind of document."""
    found, mistakes = read_object(value, '{"subject": ["labtracks", "service"]}')
    table: dict[str, dict[str, Any]] = {}
    with limited_hints(MOST_LISTED):
        for written, choice in found.items():
            kind = written.strip().lower().replace("-", "_")
            if kind not in KINDS:
                hint = _meant(written, KINDS)
                mistakes.append(f"{quoted(written)} is not a kind of document; {hint}")
            elif kind in table:
                mistakes.append(f"{quoted(kind)} is there twice; keep one")
            else:
                table[kind], wrong = _read_choice(kind, choice)
                mistakes += [f"{kind}{line}" for line in wrong]
    refuse(mistakes)
    return table


def _read_choice(kind: str, value: Any) -> tuple[dict[str, Any], list[str]]:
    """Read the sources of one kind, or an object with `sources` and `if_missing`."""
    if isinstance(value, str | list | tuple):
        names, wrong = _read_names(kind, value)
        return {"sources": names}, [f": {line}" for line in wrong]
    if not isinstance(value, Mapping) or not value:
        right = "write a list of sources, or an object with sources, if_missing or both"
        return {}, [f": {quoted(value)} says nothing about sources; {right}"]
    choice: dict[str, Any] = {}
    mistakes = []
    for key, one in value.items():
        if key == "sources":
            choice[key], wrong = _read_names(kind, one)
            mistakes += [f".{key}: {line}" for line in wrong]
        elif key != "if_missing":
            hint = _meant(key, ("sources", "if_missing"))
            mistakes.append(f": {quoted(key)} is not a key of it; {hint}")
        elif kind == "project_names":
            mistakes.append(f".{key}: there is no policy for project_names; leave it out")
        else:
            try:
                choice[key] = _policy(one)
            except ValueError as error:
                mistakes.append(f".{key}: {error}")
    return choice, mistakes


def _read_names(kind: str, value: Any) -> tuple[tuple[str, ...], list[str]]:
    """Read names of sources, in their order: a list, or a text with commas."""
    known = sources_of(kind)
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        return (), [f"{quoted(value)} is not a list of sources; write some of {', '.join(known)}"]
    names: list[str] = []
    mistakes = []
    for one in value:
        name = one.strip().lower() if isinstance(one, str) else ""
        if name in known:
            names.append(name)
        elif name in METADATA_SOURCES.unusable:
            mistakes.append(METADATA_SOURCES.unusable[name])
        elif name in METADATA_SOURCES.plugins:
            mistakes.append(f"the source {quoted(one)} has no {kind}; {_meant('', known)}")
        else:
            mistakes.append(f"{quoted(one)} is not a source of {kind}; {_meant(one, known)}")
    if not mistakes and not set(names) - {ENRICHES}:
        mistakes.append(f"no source is named; {_meant('', [n for n in known if n != ENRICHES])}")
    return tuple(dict.fromkeys(names)), mistakes


SourceTable = Annotated[dict[str, dict[str, Any]], PlainValidator(_read_table)]
ChosenGeneration = Annotated[Generation, BeforeValidator(_generation)]
OnMissing = Annotated[Policy, BeforeValidator(_policy)]


class MetadataSettings(EnvironmentSettings):
    """Which source is asked for which document, and what a missing one means."""

    prefix = "METADATA_"
    constants = frozenset({"time_limit"})

    generation: ChosenGeneration = Field(default=Generation.V0, alias="METADATA_SCHEMA")
    """The generation of aind-data-schema that the documents of assets follow: 0.34, 1 or 2."""
    folder: Annotated[Path, AfterValidator(_absolute)] | None = None
    """A folder of the lab's documents by id: `subject/690165.json`, `rig/…`, and so on."""
    sources: SourceTable | None = None
    """By kind of document, `sources` in the order in which they are asked, and what it means that
    none of them has it (`if_missing`)."""
    policy_subject: OnMissing | None = None
    """What a missing subject means, as `sources` may also say. By default: require, once a source
    is configured that could know subjects."""
    time_limit: float = Field(default=60.0, gt=0, le=3600)
    """Seconds that all questions of one job may take together."""

    @model_validator(mode="after")
    def _consistent(self) -> "MetadataSettings":
        """Refuse two policies for subjects."""
        policy = self._choice("subject").get("if_missing")
        if policy and self.policy_subject and policy != self.policy_subject:
            raise ValueError(
                f'METADATA_POLICY_SUBJECT is "{self.policy_subject}", and if_missing in '
                f'METADATA_SOURCES.subject is "{policy}"; keep one of them'
            )
        return self

    def _choice(self, kind: str) -> Mapping[str, Any]:
        """Return what is set for a kind of document."""
        return (self.sources or {}).get(kind, {})

    def order_of(self, kind: str) -> tuple[str, ...]:
        """Name the sources of a document in their order, whether or not they are configured."""
        return self._choice(kind).get("sources") or sources_of(kind)

    def policy_of(self, kind: str, ought_to_be_known: bool) -> Policy:
        """Return what it means that there is no such document.

        Parameters
        ----------
        kind : str
            The document.
        ought_to_be_known : bool
            Whether there is any source that could have had it.
        """
        policy = self._choice(kind).get("if_missing")
        if kind == "subject":
            usual = Policy.REQUIRE if ought_to_be_known else Policy.WARN
            return policy or self.policy_subject or usual
        return policy or Policy.WARN


TABLE, _SUBJECT = "METADATA_SOURCES", "METADATA_POLICY_SUBJECT"
CHOICES = frozenset({TABLE, _SUBJECT})
"""Variables that say who is asked and what a missing document means."""


def joined_choices(given: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """Return what a parameter store changes in the variables of `CHOICES`.

    The environment wins, for the sources and for the policy of each kind of document apart.

    Parameters
    ----------
    given : Mapping[str, str]
        The environment.
    stored : Mapping[str, str]
        What the store says, by variable.
    """
    found = {name: stored[name] for name in CHOICES & stored.keys() - given.keys()}
    try:
        ours = _read_table(given[TABLE]) if TABLE in given else {}
        theirs = _read_table(stored[TABLE]) if TABLE in stored else {}
    except ValueError:  # the settings themselves say what is wrong
        return found
    if "if_missing" in ours.get("subject", {}):
        found.pop(_SUBJECT, None)
    if _SUBJECT in given:
        theirs.get("subject", {}).pop("if_missing", None)
    if theirs:
        kinds = dict.fromkeys((*theirs, *ours))
        joined = {kind: theirs.get(kind, {}) | ours.get(kind, {}) for kind in kinds}
        found[TABLE] = json.dumps({kind: choice for kind, choice in joined.items() if choice})
    return found


def overridden_choices(given: Mapping[str, str], stored: Mapping[str, str]) -> list[str]:
    """Name what a parameter store says of `CHOICES` in vain, because the environment wins.

    Parameters
    ----------
    given : Mapping[str, str]
        The environment.
    stored : Mapping[str, str]
        What the store says, by variable.

    Returns
    -------
    list of str
        Variables, and kinds of documents as `METADATA_SOURCES.rig`.
    """
    joined = joined_choices(given, stored)
    in_vain = CHOICES & stored.keys() - joined.keys()
    names = [name for name in in_vain if stored[name] != given.get(name)]
    try:
        theirs = _read_table(stored.get(TABLE, "{}"))
        counts = _read_table(joined.get(TABLE, "{}"))
    except ValueError:  # the settings themselves say what is wrong
        return names
    if TABLE not in joined:
        return names
    differing = (kind for kind, choice in theirs.items() if not _is_part(choice, counts.get(kind)))
    return names + [f"{TABLE}.{kind}" for kind in differing]


def _is_part(choice: Mapping[str, Any], whole: Mapping[str, Any] | None) -> bool:
    """Return whether all that a choice says is part of another one."""
    return choice.items() <= (whole or {}).items()


_SYSTEMS = OfPlugins(METADATA_SOURCES)


class LabSettings(EnvironmentSettings):
    """All that is known of the systems that metadata come from."""

    choice: MetadataSettings = Field(default_factory=MetadataSettings)
    systems: Annotated[EnvironmentSettings, _SYSTEMS] = Field(default_factory=_SYSTEMS)
    """The settings of each installed source that has any."""

    def environment(self) -> dict[str, str]:
        """Write out the variables of the configured systems, their secrets among them."""
        return self.choice.environment() | environment_of(self.systems)
