"""The command `aind-data-transfer-service config`: the settings in effect, and what is wrong."""

import argparse
import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import Secret, SecretStr

from aind_data_transfer_service.logging_config import escape
from aind_data_transfer_service.server.startup import Checked, check_settings
from aind_data_transfer_service.settings.base import (
    SETTINGS_FILE,
    EnvironmentSettings,
    given_variables,
    read_settings,
)
from aind_data_transfer_service.settings.env_policy import of_one_job
from aind_data_transfer_service.settings.upload import UploadSettings

HIDDEN = "(set, hidden)"


def main(argv: Sequence[str] | None = None) -> int:
    """Print all settings; return 0 if the service could start with them, else 1.

    Parameters
    ----------
    argv : Sequence[str], optional
        Arguments; default: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="aind-data-transfer-service config",
        description="Show the settings in effect (secrets hidden), where each comes from, and what "
        "is wrong with them. The exit code is 0 if the service could start, else 1.",
    )
    parser.add_argument("--settings", metavar="FILE", help="a settings file in TOML")
    options = parser.parse_args(argv)
    if options.settings:
        os.environ[SETTINGS_FILE] = options.settings
    checked = check_settings()
    wrong = {problem.partition(":")[0] for problem in checked.problems}
    print("\n".join(table(settings_of(checked), wrong, checked.from_file)))
    for heading, lines in (("Warnings", checked.warnings), ("Errors", checked.problems)):
        if lines:
            text = "\n  ".join(escape(line) for line in lines)
            print(f"{heading}:\n  {text}", file=sys.stderr)
    return 1 if checked.problems else 0


def settings_of(checked: Checked) -> dict[str, Any]:
    """Return the value of each setting of the service and of its jobs, by variable.

    Parameters
    ----------
    checked : Checked
        The settings.
    """
    jobs, _ = read_settings(UploadSettings)
    of_jobs = {k: v for k, v in _values(jobs).items() if k not in of_one_job()}
    return of_jobs | _values(checked.settings)


def table(
    values: Mapping[str, Any], wrong: Collection[str] = (), from_file: Collection[str] = ()
) -> Iterator[str]:
    """Write the lines of a table: variable, source, value.

    Parameters
    ----------
    values : Mapping[str, Any]
        The value of each variable.
    wrong : Collection[str]
        The variables whose values cannot be used.
    from_file : Collection[str]
        The variables whose values come from the settings file.
    """
    given = given_variables(os.environ)
    width = max(map(len, values))
    for name, value in sorted(values.items()):
        source = "file" if name in from_file else "environment" if name in given else "default"
        text = "(wrong, see the errors)" if name in wrong else shown(value)
        yield f"{name:<{width}}  {source:<11}  {text}".rstrip()


def shown(value: Any) -> str:
    """Write a value for people, without any secret.

    Parameters
    ----------
    value : Any
        The value of a setting.
    """
    if value is None:
        return ""
    if isinstance(value, SecretStr | Secret):
        return HIDDEN if value.get_secret_value() else ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, Mapping):
        return escape(json.dumps(value, ensure_ascii=False, default=shown))
    if isinstance(value, set | frozenset):
        return ", ".join(sorted(map(shown, value)))
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return escape(_without_password(str(value)))


def _values(settings: EnvironmentSettings) -> dict[str, Any]:
    """Return the values of settings and of their groups, by variable."""
    found: dict[str, Any] = {}
    variables = settings.variables()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, EnvironmentSettings):
            found |= _values(value)
        elif name in variables:
            found[variables[name]] = value
    return found


def _without_password(text: str) -> str:
    """Hide the name and the password in an address."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    if "://" not in text or "@" not in parts.netloc:
        return text
    return urlunsplit(parts._replace(netloc="…@" + parts.netloc.rpartition("@")[2]))
