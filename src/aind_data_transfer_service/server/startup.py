"""What is checked before the service starts, so that everything wrong is reported at once."""

import contextlib
import logging
import os
import socket
import sqlite3
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aind_data_transfer_service.configs.bucket_aliases import BUCKET_WORDS
from aind_data_transfer_service.configs.validators import bucket_problem
from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.jobs.store.engine import resolve_url
from aind_data_transfer_service.logging_config import configured_from_environment, escape
from aind_data_transfer_service.settings.base import given_variables, read_settings
from aind_data_transfer_service.settings.json_objects import read_object
from aind_data_transfer_service.settings.plugin_settings import plugin_problems
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.toml_file import DEFAULT, SettingsFile, apply_settings_file
from aind_data_transfer_service.settings.types import refuse_special_file
from aind_data_transfer_service.settings.unknown_variables import check_names
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.slurmrest.units import two_part_time
from aind_data_transfer_service.upload.transforms.registry import repeated_modalities

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """The settings of the environment, and what is wrong with them."""

    settings: ServiceSettings
    problems: list[str]
    """What keeps the service from starting."""
    warnings: list[str]
    from_file: frozenset[str]
    """The variables whose values come from the settings file."""


def check_settings() -> Checked:
    """Read the service's settings and look at all that they name on this machine."""
    file = apply_settings_file(os.environ) or SettingsFile(DEFAULT)
    names = check_names(os.environ)
    of_plugins, plugin_warnings = plugin_problems()
    of_plugins += repeated_modalities()
    settings, problems = read_settings(ServiceSettings)
    _, of_jobs = read_settings(UploadSettings)
    problems += [line for line in of_jobs if line not in problems]
    problems = [*file.problems, *of_plugins, *names.errors, *problems, *missing_resources(settings)]
    warnings = [*file.warnings, *plugin_warnings, *names.warnings]
    if "lab_timezone" not in settings.model_fields_set:
        warnings.append(
            "LAB_TIMEZONE: not set; times without an offset are read in this machine's zone, "
            f"{settings.lab_timezone}"
        )
    warnings += [*_bucket_warnings(settings), *_time_warnings()]
    has_cluster = {"HPC_HOST", "HPC_URL"} & given_variables(os.environ).keys()
    if settings.s3_accounts.get_secret_value() and not has_cluster:
        warnings.append(
            "S3_ACCOUNTS: not used, because these accounts are for jobs on a cluster; jobs on this "
            "machine use the credentials of the AWS tools"
        )
    return Checked(settings, problems, warnings, frozenset(file.values))


def _bucket_warnings(settings: ServiceSettings) -> Iterator[str]:
    """Warn of words in `ALLOWED_BUCKETS`, and of buckets behind words that are not in it."""
    names, allowed = settings.bucket_names, settings.allowed_buckets
    words = allowed & BUCKET_WORDS.keys() - set(names.values())
    for word in sorted(words):
        bucket = names.get(word, "which is not set")
        yield (
            f'ALLOWED_BUCKETS: "{word}" is the word for the bucket of {BUCKET_WORDS[word]} '
            f"({bucket}); write names of buckets"
        )
    if settings.default_s3_bucket is None:
        words |= {"default"}
    for word in sorted(names.keys() - words):
        if bucket_problem(names[word], allowed):
            jobs = "no bucket" if word == "default" else word
            yield (
                f"{BUCKET_WORDS[word]}: {names[word]} is not in ALLOWED_BUCKETS, so that jobs that "
                f"name {jobs} are refused; add it there, or change this setting"
            )


def _time_warnings() -> Iterator[str]:
    """Warn of times in the defaults of jobs that many take for hours and minutes."""
    given = given_variables(os.environ)
    times = {"HPC_TIME_LIMIT": given.get("HPC_TIME_LIMIT")}
    with contextlib.suppress(ValueError):  # which is one of the problems
        defaults, _ = read_object(given.get("HPC_JOB_DEFAULTS", "{}"), "")
        for name in ("time_limit", "time_minimum"):
            times[f"HPC_JOB_DEFAULTS.{name}"] = defaults.get(name)
    for name, value in times.items():
        if words := two_part_time(value):
            yield f"{name}: {words}"


def settings_or_exit() -> ServiceSettings:
    """Return the service's settings.

    Raises
    ------
    SystemExit
        If anything is wrong with them, with all of it as its message.
    """
    checked = check_settings()
    configured_from_environment()  # the file may say how
    if checked.problems:
        raise SystemExit(refusal(checked.problems))
    for warning in checked.warnings:
        logger.warning("%s", warning)
    return checked.settings


def refusal(problems: list[str]) -> str:
    """Return the message of a service that does not start.

    Parameters
    ----------
    problems : list[str]
        Everything that is wrong.
    """
    lines = "\n  ".join(map(escape, problems))
    return (
        f"The service cannot start with these settings:\n  {lines}\n"
        "`aind-data-transfer-service config` shows all settings and where each comes from."
    )


def missing_resources(settings: ServiceSettings) -> list[str]:
    """List which files, folders and databases that the settings name cannot be used.

    Parameters
    ----------
    settings : ServiceSettings
        The settings. Nothing is created or changed.
    """
    return [*_database(settings), *_folders(settings), *_files(settings)]


def unusable_port(host: str, port: int) -> list[str]:
    """Return why the service cannot listen on a port, if so.

    Parameters
    ----------
    host, port : str, int
        Where it is to listen.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return [f"--host {host} --port {port}: cannot listen there ({reason}); choose another"]
    return []


def _database(settings: ServiceSettings) -> Iterator[str]:
    try:
        url = resolve_url(settings.resolved_database_url)
    except TransferServiceError as error:
        yield str(error)
        return
    if url.drivername.startswith("sqlite") and settings.database_url is not None:
        yield from _writable("DATABASE_URL", Path(url.database or "").parent)


def _folders(settings: ServiceSettings) -> Iterator[str]:
    yield from _writable("DATA_DIR", settings.data_dir)
    if settings.destination and settings.destination != "s3://":
        yield from _writable("DESTINATION", Path(settings.destination))
    folder = settings.metadata.choice.folder
    if folder and not folder.is_dir():
        yield f'METADATA_FOLDER: "{folder}" is not a folder, or cannot be reached'


def _files(settings: ServiceSettings) -> Iterator[str]:
    hpc = settings.hpc
    files: tuple[tuple[str, Path | None, Callable[[Path], None]], ...] = (
        ("AWS_CA_BUNDLE", settings.aws_ca_bundle, _load_certificates),
        ("HPC_CA_FILE", hpc.ca_file, _load_certificates),
        ("CA_FILE", _source_certificates(settings), _load_certificates),
        ("HPC_TOKEN_FILE", hpc.token_file, _read_text),
    )
    for variable, path, read in files:
        try:
            if path is not None:
                refuse_special_file(path)
                read(path)
        except ssl.SSLError:
            yield f'{variable}: "{path}" holds no certificates in PEM format'
        except OSError as error:
            yield f'{variable}: "{path}" cannot be read: {error.strerror}'
        except ValueError as error:
            yield f'{variable}: "{path}" {error}'


def _source_certificates(settings: ServiceSettings) -> Path | None:
    """Return the file of certificates that several sources of metadata share."""
    systems = settings.metadata.systems
    files = (
        getattr(getattr(systems, name), "ca_file", None) for name in type(systems).model_fields
    )
    return next(filter(None, files), None)


def _load_certificates(path: Path) -> None:
    ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)


def _read_text(path: Path) -> None:
    if not path.read_text(encoding="utf-8", errors="replace").strip():
        raise ValueError("is empty")


def _writable(variable: str, folder: Path) -> Iterator[str]:
    """Report a folder in which nothing can be written; one that is missing is made later."""
    above = folder
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    try:
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        where = "" if above == folder else f" in {above}"
        yield f'{variable}: "{folder}" cannot be written{where}: {error.strerror}'


class ReadableStartup:
    """Reports in one line why the service could not start, if the reason is a known one."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, but for the traceback of a database that does not answer."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_reason(message: Message) -> None:
            reason = _reason(sys.exception())
            if message["type"] == "lifespan.startup.failed" and reason:
                message = {**message, "message": f"The service cannot start: {reason}"}
            await send(message)

        await self.app(scope, receive, send_reason)


def _reason(error: BaseException | None) -> str:
    """Return what a known error means, and nothing for an unexpected one."""
    if isinstance(error, SQLAlchemyError | sqlite3.Error | psycopg.Error):
        cause = getattr(error, "orig", None) or error
        return f"DATABASE_URL: the database cannot be used: {' '.join(str(cause).split())}"
    return str(error) if isinstance(error, TransferServiceError | OSError) else ""
