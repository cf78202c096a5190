"""Reading settings from the environment: a variable a field, an empty one as if it were not set."""

import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from aind_data_transfer_service import redaction
from aind_data_transfer_service.configs.vocabulary import quoted

SETTINGS_FILE = "SETTINGS_FILE"
"""The variable that names a file with settings."""
_LINK = re.compile(r"(tcp|udp|sctp)://")


def is_link(name: str, value: str) -> bool:
    """Return whether Kubernetes or Docker sets such a variable for a service of that name.

    Examples
    --------
    >>> is_link("SMTP_PORT", "tcp://10.0.0.1:25"), is_link("SMTP_PORT", "25")
    (True, False)
    """
    return name.upper().endswith("_PORT") and _LINK.match(value) is not None


class SettingErrors(ValueError):
    """Several things are wrong with one setting."""

    def __init__(self, problems: Sequence[str]):
        """Keep each of `problems`, which are listed one a line."""
        super().__init__("; ".join(problems))
        self.problems = list(problems)


def given_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that are set for this service, by their names in capitals.

    Parameters
    ----------
    environment : Mapping[str, str]
        All variables. An empty one counts as not set, and so does what `is_link` recognises.
    """
    given = environment.items()
    return {name.upper(): value for name, value in given if value and not is_link(name, value)}


class EnvironmentSettings(BaseModel):
    """Settings whose fields are variables of the environment; what is passed in wins over those.

    The variable of a field is its name in capitals behind `prefix`, or its alias. Its case does not
    count. A field that holds settings itself has no variable: those read their own.
    """

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        validate_default=True,
    )
    prefix: ClassVar[str] = ""
    """How the variables begin."""
    constants: ClassVar[frozenset[str]] = frozenset()
    """Fields that have no variable: they are changed by code alone."""

    def __init__(self, **values: Any):
        there = given_variables(os.environ)
        redaction.learn_environment(there)
        variables = self.variables().items()
        found = {name: there[variable] for name, variable in variables if variable in there}
        super().__init__(**(found | values))
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                redaction.learn_setting(value.get_secret_value())
            elif isinstance(value, str):
                redaction.learn_address(value)

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Name the variable of each field."""
        groups = cls._group_fields().keys()
        return {
            name: (field.alias or f"{cls.prefix}{name}").upper()
            for name, field in cls.model_fields.items()
            if name not in groups | cls.constants
        }

    @classmethod
    def groups(cls) -> dict[str, type["EnvironmentSettings"]]:
        """Return the fields that hold settings themselves."""
        return {
            name: kind.model if isinstance(kind, PluginGroup) else kind
            for name, kind in cls._group_fields().items()
        }

    @classmethod
    def _group_fields(cls) -> "dict[str, type[EnvironmentSettings] | PluginGroup]":
        """Return the fields that hold settings, without looking for plug-ins."""
        found: dict[str, type[EnvironmentSettings] | PluginGroup] = {}
        for name, field in cls.model_fields.items():
            plugins = [one for one in field.metadata if isinstance(one, PluginGroup)]
            kind = field.annotation
            if plugins:
                found[name] = plugins[0]
            elif isinstance(kind, type) and issubclass(kind, EnvironmentSettings):
                found[name] = kind
        return found

    def environment(self) -> dict[str, str]:
        """Write out the variables that are set, secrets included, as a job's environment has them.

        The settings of its groups are not among them.
        """
        variables = self.variables()
        values = {name: getattr(self, name) for name in sorted(self.model_fields_set)}
        return {
            variables[name]: _text(value)
            for name, value in values.items()
            if value is not None and name in variables
        }

    @property
    def is_set(self) -> bool:
        """Whether enough is set for what these settings are about to be used; else it is off."""
        return True


def _text(value: Any) -> str:
    """Write a value as its variable has it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list | tuple | set | frozenset):
        return ",".join(map(str, value))
    return str(value)


class PluginGroup(ABC):
    """The annotation of a field that holds the settings of plug-ins."""

    @property
    @abstractmethod
    def model(self) -> type[EnvironmentSettings]:
        """The class of the field, which depends on what is installed."""


Settings = TypeVar("Settings", bound=EnvironmentSettings)


def read_settings(model: type[Settings]) -> tuple[Settings, list[str]]:
    """Read settings with all their groups, however much is wrong with them.

    Parameters
    ----------
    model : type[EnvironmentSettings]
        The settings.

    Returns
    -------
    tuple[EnvironmentSettings, list[str]]
        The settings, and everything that is wrong. What is wrong has its default in them, so that
        they serve to look for further problems only.
    """
    problems: list[str] = []
    values: dict[str, Any] = {}
    for name, group in model.groups().items():
        values[name], wrong = read_settings(group)
        problems += wrong
    try:
        return model(**values), problems
    except ValidationError as error:
        problems = explain_settings(error) + problems
        places = {str(details["loc"][0]) for details in error.errors() if details["loc"]}
        fields = {variable: name for name, variable in model.variables().items()}
        wrong_fields = {fields.get(place, place) for place in places}
    for name in wrong_fields & model.model_fields.keys():
        values[name] = model.model_fields[name].get_default(call_default_factory=True)
    try:
        return model(**values), problems
    except ValidationError as error:  # what does not go together is found once each field is right
        more = [line for line in explain_settings(error) if line not in problems]
        return model.model_construct(**values), problems + more


def explain_settings(error: ValidationError, hidden: Collection[str] = ()) -> list[str]:
    """List what is wrong with the environment, a line a problem: `SMTP_PORT: "abc" …`.

    Of the variables in `hidden`, values are not shown: they come from where secrets lie.
    """
    lines = []
    mistakes = error.errors(include_url=False)
    variables = _variables_of(error.title, {str(one["loc"][0]) for one in mistakes if one["loc"]})
    for details in mistakes:
        field = str(details["loc"][0]) if details["loc"] else ""
        variable = variables.get(field, field.upper())
        if variable in hidden:
            found = ["what it is set to cannot be used"]
        elif details["type"] == "value_error":
            cause = details["ctx"]["error"]
            found = cause.problems if isinstance(cause, SettingErrors) else [str(cause)]
        else:
            found = [f"{quoted(details['input'])} is refused: {details['msg']}"]
        for words in found:
            lines.append(redaction.redact(f"{variable}: {words}" if variable else words))
    return lines


def _variables_of(title: str, fields: Collection[str]) -> dict[str, str]:
    """Return the variables of a class of settings, by its name and some of its fields or aliases.

    Plug-ins of several packages may have classes of one name.
    """
    models = [one for one in _models() if one.__name__ == title]
    for model in models:
        variables = model.variables()
        if {*variables, *variables.values()}.issuperset(fields):
            return variables
    return models[0].variables() if models else {}


def _models(
    base: type[EnvironmentSettings] = EnvironmentSettings,
) -> Iterator[type[EnvironmentSettings]]:
    """Return every class of settings that is in use."""
    for model in base.__subclasses__():
        yield model
        yield from _models(model)
