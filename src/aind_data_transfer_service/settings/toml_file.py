"""A settings file in TOML, as an alternative to variables of the environment.

A key is the name of a variable, in any case; tables are prefixes: `host` in the table `[hpc]` is
`HPC_HOST`. A variable that is set in the environment wins over the file.
"""

import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import Any, NoReturn

from aind_data_transfer_service.configs.vocabulary import nearest
from aind_data_transfer_service.settings.base import SETTINGS_FILE, given_variables
from aind_data_transfer_service.settings.env_policy import SECRETS_OF_AWS, of_one_job
from aind_data_transfer_service.settings.types import home_expanded
from aind_data_transfer_service.settings.unknown_variables import (
    REMOVED,
    known_variables,
    secret_variables,
    suggestion,
)

DEFAULT = Path("/etc/aind-data-transfer-service.toml")
"""The file that is read if it exists and none is named."""

_OF_AWS = frozenset(
    {
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
        *("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
        *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"),
    }
)
"""Variables of the AWS tools that name the keys of jobs on this machine."""
_PATHS = frozenset({"SOURCE_ROOTS", "HPC_BIND_PATHS"})
_JSON_LISTS = frozenset({"EXCLUDE"})
"""Settings in which an empty list differs from none."""
_MOST_BYTES = 1024**2


@dataclass
class SettingsFile:
    """What a settings file holds, and what is wrong with it."""

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    """By variable, written as the environment has them."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def apply_settings_file(environment: MutableMapping[str, str]) -> SettingsFile | None:
    """Add the values of the settings file to the environment, if there is a file.

    Parameters
    ----------
    environment : MutableMapping[str, str]
        Takes the values of variables that are not set. `SETTINGS_FILE` in it names the file.

    Returns
    -------
    SettingsFile | None
        What was read. Its `values` are those that were added.
    """
    given = given_variables(environment)
    named = given.get(SETTINGS_FILE)
    if not named and not DEFAULT.exists():
        return None
    found = read_settings_file(home_expanded(Path(named)).absolute() if named else DEFAULT)
    found.values = {name: text for name, text in found.values.items() if name not in given}
    environment.update(found.values)
    return found


def read_settings_file(path: Path) -> SettingsFile:
    """Read a settings file.

    Parameters
    ----------
    path : Path
        The file.
    """
    found = SettingsFile(path)
    try:
        data, mode = _read(path)
        _collect(found, tomllib.loads(data.decode("utf-8")))
    except OSError as error:
        found.problems.append(
            f'{SETTINGS_FILE}: "{path}" cannot be read: {error.strerror or error}'
        )
    except UnicodeDecodeError:
        found.problems.append(f'{SETTINGS_FILE}: "{path}" is not UTF-8 text')
    except ValueError as error:  # of TOML, or of an integer with thousands of digits
        found.problems.append(f'{SETTINGS_FILE}: "{path}" is not valid TOML: {error}')
    except RecursionError:
        found.problems.append(f'{SETTINGS_FILE}: "{path}" is nested too deeply')
    else:
        _check_mode(found, mode)
    return found


def _read(path: Path) -> tuple[bytes, int]:
    """Read a regular file; a pipe or a device could block for ever."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise OSError("it is larger than 1 MiB")
    return data, stat.S_IMODE(status.st_mode)


def _collect(found: SettingsFile, content: Mapping[str, Any]) -> None:
    """Take the values of all keys, and report those that are not settings."""
    known = known_variables() - {SETTINGS_FILE} | _OF_AWS
    known -= of_one_job() - {"DATA_DIR", "AWS_PARAM_STORE_NAME"}
    for path, value in _keys(content, known):
        key, variable = ".".join(path), "_".join(path).upper()
        where = f"{found.path}, {key}"
        if variable in found.values:
            found.problems.append(f"{where}: set twice")
        elif variable in REMOVED and variable not in known:
            found.problems.append(f"{where}: no longer a setting; {REMOVED[variable]}")
        elif variable not in known:
            found.problems.append(f"{where}: unknown setting; {_suggestion(path, known)}")
        else:
            try:
                found.values[variable] = _text(variable, value)
            except ValueError as error:
                found.problems.append(f"{where}: {error}")


def _keys(
    content: Mapping[str, Any], known: frozenset[str], above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give each key with the tables that it is in; the table of a setting is its value."""
    for key, value in content.items():
        path = (*above, key)
        if isinstance(value, dict) and "_".join(path).upper() not in known:
            yield from _keys(value, known, path)
        else:
            yield path, value


def _suggestion(path: tuple[str, ...], known: frozenset[str]) -> str:
    """Name the nearest key, as it is written in the same table."""
    near = nearest("_".join(path).upper(), known)
    if near is None:
        return suggestion("", ())
    tables = "".join(f"{table}_" for table in path[:-1]).upper()
    if near.startswith(tables):
        near = ".".join((*path[:-1], near[len(tables) :]))
    return f"did you mean {near.lower()}?"


def _text(variable: str, value: Any) -> str:
    """Write a value as the variable has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, date | time):
        _refuse(value)
    is_text = not isinstance(value, dict) and all(isinstance(one, str) for one in value)
    if not is_text or variable in _JSON_LISTS:
        return json.dumps(value, default=_refuse)
    separator = os.pathsep if variable in _PATHS else ","
    if any(separator in one for one in value):
        raise ValueError(f'no item may contain "{separator}"')
    return separator.join(value)


def _refuse(value: date | time) -> NoReturn:
    """Refuse what TOML has and JSON does not."""
    raise ValueError("is or has a date or time; write it in quotation marks")


def _check_mode(found: SettingsFile, mode: int) -> None:
    """Refuse a file with secrets that everybody can read; warn if a group can."""
    secrets = sorted(found.values.keys() & (secret_variables() | SECRETS_OF_AWS))
    if not secrets:
        return
    text = f'{SETTINGS_FILE}: "{found.path}" holds secrets ({", ".join(secrets)}), and its mode is'
    if mode & 0o037:
        found.problems.append(f"{text} {mode:04o}; set it to 0600")
    elif mode & 0o040:
        found.warnings.append(f"{text} {mode:04o}: its group can read them")
