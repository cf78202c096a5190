"""Settings of a job that lie in AWS: Systems Manager's Parameter Store, and Secrets Manager.

`AWS_PARAM_STORE_NAME` names either one parameter, whose value is a JSON object of settings, or a
path, beneath which each parameter is a setting::

    {"METADATA_SERVICE_URL": "http://metadata.example.org",
     "LABTRACKS_PASSWORD": {"secret": "labtracks", "key": "password"}}

Names are those of the environment's variables, in any case, with `-` for `_` where one likes. A
value may point to a secret: `secret` is its name or ARN, `key` the field of it, where the secret
is a JSON object. What the environment says already wins. Nothing but settings can be set.

Facts: https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html,
https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import wait
from dataclasses import dataclass
from functools import partial
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.session import get_session
from pydantic import ValidationError

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import RequestError
from aind_data_transfer_service.settings.base import explain_settings, given_variables
from aind_data_transfer_service.settings.env_policy import shared_variables
from aind_data_transfer_service.settings.metadata import (
    CHOICES,
    TABLE,
    joined_choices,
    overridden_choices,
)
from aind_data_transfer_service.settings.upload import UploadSettings

logger = logging.getLogger(__name__)

_SECONDS = 100.0
"""What all questions may take together: botocore's own limits count from byte to byte."""
_HALF = re.compile("[\ud800-\udfff]")
_PATIENCE = Config(
    connect_timeout=10,
    read_timeout=20,
    retries={"total_max_attempts": 4, "mode": "standard"},
    ignore_configured_endpoint_urls=True,  # AWS_ENDPOINT_URL is that of the data's S3 server
)
_SERVICES = {
    "ssm": "AWS_ENDPOINT_URL_SSM",
    "secretsmanager": "AWS_ENDPOINT_URL_SECRETS_MANAGER",
}


@dataclass(frozen=True)
class Parameters:
    """What the parameter store says."""

    values: Mapping[str, str]
    """By variable, what it is to be. Secrets among them: never to be shown."""
    unknown: tuple[str, ...] = ()
    """Names that are no settings of a job."""


def add_parameters(settings: UploadSettings, warn: Callable[[str], None]) -> UploadSettings:
    """Add what the store of parameters says; the environment wins where both say something.

    Parameters
    ----------
    settings : UploadSettings
        Those of the environment, which name the parameter.
    warn : Callable
        Receives a warning about the names that have no effect: those that are not settings of a
        job, and those that the job's environment sets already.

    Raises
    ------
    RequestError
        Where nothing can be read, or what was read cannot be used. The message holds no values.
    """
    name = settings.aws_param_store_name
    if not name:
        return settings
    parameters = read_parameters(name, shared_variables())
    if parameters.unknown:
        names = ", ".join(map(_replaced, parameters.unknown[:10]))
        warn(f"AWS_PARAM_STORE_NAME ({name}): not settings of a job: {names}")
    given = given_variables(os.environ)
    if ignored := _ignored(given, parameters.values):
        warn(
            f"AWS_PARAM_STORE_NAME ({name}): ignored, because the job's environment sets them: "
            f"{', '.join(ignored)}. Jobs of the service get these settings from the service: "
            "change them in its settings, and remove them from the parameter store"
        )
    new = parameters.values.keys() - given.keys() - CHOICES
    added = {variable: parameters.values[variable] for variable in new}
    added |= joined_choices(given, parameters.values)
    os.environ.update(added)
    if added:
        logger.info("settings from %s: %s", name, ", ".join(sorted(added)))
    try:
        return UploadSettings()
    except ValidationError as error:
        reasons = "; ".join(explain_settings(error, hidden=added))
        raise RequestError(f"AWS_PARAM_STORE_NAME ({name}): {reasons}") from None


def _ignored(given: Mapping[str, str], stored: Mapping[str, str]) -> list[str]:
    """Name the settings that the environment sets otherwise than the store; it wins."""
    names = [name for name in stored.keys() & given.keys() - CHOICES if stored[name] != given[name]]
    return sorted([*names, *overridden_choices(given, stored)])


def _replaced(name: str) -> str:
    """Name what is not a setting, and what takes its place if it was one."""
    from aind_data_transfer_service.settings.unknown_variables import REMOVED  # rarely needed

    return f"{name} ({REMOVED[name]})" if name in REMOVED else name


def read_parameters(name: str, known: Collection[str], seconds: float = _SECONDS) -> Parameters:
    """Read settings from the parameter store, secrets included.

    Parameters
    ----------
    name : str
        Name of one parameter, or a path.
    known : Collection[str]
        The variables that may be set in this way.
    seconds : float
        How long it may take, however slowly the store answers.

    Raises
    ------
    RequestError
        Where the parameter, or a secret that it points to, cannot be read or understood. The
        message holds no values.
    """
    answer = beside(partial(_read, name, known), "parameters")
    wait([answer], seconds)
    if not answer.done():
        raise RequestError(
            f"AWS_PARAM_STORE_NAME ({name}) cannot be read: AWS did not answer within {seconds:g} s"
        )
    return answer.result()


def _read(name: str, known: Collection[str]) -> Parameters:
    """Read all of it, however long that takes."""
    try:
        given = _given(name)
        variables = {_variable(key): value for key, value in given.items()}
        wanted = {key: value for key, value in variables.items() if key in known}
        values = {key: _value(name, key, value) for key, value in wanted.items()}
        _check(name, values)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        words = error.response.get("Error", {}).get("Message", "")
        if code.isdigit():  # somebody else's page, word for word
            words = "that is no answer of AWS; a proxy may stand before it"
        doing = f"{error.operation_name} answered {code}: {words}".strip(": ")
        raise RequestError(f"AWS_PARAM_STORE_NAME ({name}): {doing}") from error
    except BotoCoreError as error:
        raise RequestError(f"AWS_PARAM_STORE_NAME ({name}) cannot be read: {error}") from error
    return Parameters(values, tuple(sorted(variables.keys() - wanted.keys())))


def _client(service: str) -> Any:
    """Open a client of one of Amazon's services."""
    variable = _SERVICES[service]
    address = os.environ.get(variable) or None
    try:
        return get_session().create_client(service, endpoint_url=address, config=_PATIENCE)
    except BotoCoreError:
        raise
    except ValueError:
        raise RequestError(
            f"{variable}: what it is set to is no address; write one such as https://{service}"
            ".us-west-2.amazonaws.com"
        ) from None


@contextlib.contextmanager
def _understood(name: str) -> Iterator[None]:
    """Say in words that an answer is none of AWS: botocore takes what is no JSON for an empty one.

    What does not have the right form fails in botocore or at the first look, by whatever error.
    """
    try:
        yield
    except (BotoCoreError, ClientError):
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ResponseParserError):
        raise RequestError(
            f"AWS_PARAM_STORE_NAME ({name}) cannot be read: what answers is not AWS, or the answer "
            "broke off; a proxy may stand before it"
        ) from None


def _text(value: Any) -> str:
    """Take a text, and nothing else."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _given(name: str) -> dict[str, Any]:
    """Get the object that one parameter holds, or what lies beneath a path."""
    store = _client("ssm")
    try:
        with _understood(name):
            answer = store.get_parameter(Name=name, WithDecryption=True)
            text = _text(answer["Parameter"]["Value"])
    except store.exceptions.ParameterNotFound:
        found = _beneath(store, name)
        if not found:
            raise RequestError(
                f"AWS_PARAM_STORE_NAME ({name}): there is no parameter of this name, and none "
                "beneath it"
            ) from None
        return found
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise RequestError(
            f"AWS_PARAM_STORE_NAME ({name}): its value is no JSON object of settings, such as "
            '{"METADATA_SERVICE_URL": "http://metadata.example.org"}'
        )
    return given


def _beneath(store: Any, path: str) -> dict[str, Any]:
    """Get all parameters beneath a path, each by the last piece of its name."""
    pages = store.get_paginator("get_parameters_by_path").paginate(
        Path="/" + path.strip("/"), Recursive=True, WithDecryption=True
    )
    with _understood(path):
        return {
            _text(parameter["Name"]).rpartition("/")[2]: _text(parameter["Value"])
            for page in pages
            for parameter in page["Parameters"]
        }


def _variable(key: str) -> str:
    """Write a name as the environment has it."""
    return key.strip().upper().replace("-", "_")


def _value(name: str, key: str, value: Any) -> str:
    """Write a value as the environment has it; follow it, where it points to a secret."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ",".join(value)
    if isinstance(value, dict) and isinstance(value.get("secret"), str):
        return _secret(name, key, value["secret"], value.get("key"))
    if isinstance(value, dict) and key == TABLE:
        return json.dumps(value)
    raise RequestError(
        f"AWS_PARAM_STORE_NAME ({name}): {key} is neither a text nor a number nor a pointer to a "
        'secret, such as {"secret": "its name", "key": "a field of it"}'
    )


def _check(name: str, values: Mapping[str, str]) -> None:
    """Refuse what no environment can hold: NUL, and half of a pair of UTF-16."""
    odd = [key for key, value in values.items() if "\0" in value or _HALF.search(value)]
    if odd:
        raise RequestError(
            f"AWS_PARAM_STORE_NAME ({name}): {', '.join(sorted(odd))} has characters that no "
            "variable can hold (NUL, or half of a pair)"
        )


def _secret(name: str, key: str, secret: str, field: Any) -> str:
    """Read a secret, or one field of it."""
    manager = _client("secretsmanager")
    with _understood(name):
        answer = manager.get_secret_value(SecretId=secret)
        text = _text(answer["SecretString"]) if "SecretBinary" not in answer else None
    if text is None:
        raise RequestError(
            f"AWS_PARAM_STORE_NAME ({name}): {key} points to the secret {secret}, which is no text"
        )
    if field is None:
        return text
    try:
        found = json.loads(text)[field]
    except (ValueError, TypeError, KeyError, IndexError):
        found = None
    if not isinstance(found, str | int | float):
        raise RequestError(
            f'AWS_PARAM_STORE_NAME ({name}): {key} asks for "{field}" of the secret {secret}, '
            "which has no such field"
        )
    return str(found)
