"""The rules for single values: text, paths, subject ids, buckets, yes and no.

Each function takes what a client or a spreadsheet gave, and returns the value in its one right
form, or raises `ValueError` with what was found and what would be right.
"""

import json
import os
import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from aind_data_transfer_service import plain_text
from aind_data_transfer_service.configs import windows_paths
from aind_data_transfer_service.configs.bucket_aliases import BUCKET_WORDS
from aind_data_transfer_service.configs.no_values import refuse_no_value
from aind_data_transfer_service.configs.vocabulary import nearest, quoted

MAX_TEXT = 256
MAX_PATH_BYTES = 4096
MAX_JSON_DEPTH = 50
MAX_MODALITIES = 9_999
MISSING = "missing; every request needs it"

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_ODD_BLANKS = re.compile(r"[\u00a0\u1680\u2000-\u200a\u202f\u205f]")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://?")
_SCIENTIFIC = re.compile(r"\d+(?:[.,]\d*E[+-]?|E\+)\d+", re.A | re.I)
"""A number as spreadsheet programs show it; without a decimal sign and `+`, it may be an id."""
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_. -]*)+(?<! )")
"""What most paths look like; such a path has nothing to remove or to refuse."""
_SUBJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,62}[A-Za-z0-9])?")
_WHOLE = re.compile(r"(\d{1,63})(?:\.0+)?", re.A)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")
_TRUTH_VALUES = frozenset({"true", "false"})
_YES = frozenset({"true", "yes", "y", "1", "t", "on"})
_NO = frozenset({"false", "no", "n", "0", "f", "off"})
_PATH_RIGHT = "write the path from the root of the shared drive, for example /shared_drive/690165"


def text(value: object) -> str:
    """Take one line of text: no invisible characters, no blanks round it, up to 256 characters."""
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is no text; write it in quotation marks")
    stripped = plain_text.trim(value)
    if not stripped:
        raise ValueError("empty; write a text")
    if not stripped.isascii() or not stripped.isprintable():
        stripped = _ODD_BLANKS.sub(" ", stripped)
        if plain_text.wrong_character(stripped):
            plain_text.refuse(stripped, quoted(stripped))
    if len(stripped) > MAX_TEXT:
        raise ValueError(f"{len(stripped)} characters long; write at most {MAX_TEXT}")
    refuse_no_value(stripped)
    return stripped


def optional_text(value: object) -> str | None:
    """Take one line of text; a blank one is none at all."""
    return None if is_left_out(value) else text(value)


def path(value: object, mappings: Mapping[str, str] | None = None) -> PurePosixPath:
    """Take an absolute path, as the machines of the cluster see it.

    Blanks and invisible characters at its ends are dropped. Network names and drives of Windows
    become POSIX paths. Refused, with what is right: addresses such as `s3://`, relative paths,
    `..`, the root itself, line breaks, and more than 4,096 bytes.

    Parameters
    ----------
    value : object
        The path.
    mappings : Mapping[str, str] | None
        Where the cluster has network names and drives (`windows_paths.posix_path`). Only the
        service knows; without it, such a path stays in its normal form, for the service to map.
    """
    if type(value) is str and len(value) <= MAX_PATH_BYTES // 4 and _PLAIN_PATH.fullmatch(value):
        return PurePosixPath(value)
    stripped = _without_slash(plain_text.trim(written_path(value)))
    if not stripped.isascii() or not stripped.isprintable():
        plain_text.refuse(stripped, quoted(stripped))
    if windows_paths.is_windows_path(stripped):
        if mappings is None:
            return PurePosixPath(windows_paths.normal_form(stripped))
        stripped = windows_paths.posix_path(stripped, mappings)
    if stripped[:1] != "/" or "/.." in stripped:
        _refuse_path(stripped)
    found = PurePosixPath(stripped)
    if len(stripped) > MAX_PATH_BYTES // 4 and len(os.fsencode(found)) > MAX_PATH_BYTES:
        raise ValueError(f"{quoted(stripped)} is longer than {MAX_PATH_BYTES} bytes")
    if not stripped.strip("/.") and str(found) == "/":
        raise ValueError(f'"{stripped}" is the root of the drive; name a folder beneath it')
    return found


def recorded_path(value: str, mappings: Mapping[str, str] | None = None) -> str:
    """Return the path of a recorded request, which is not checked again.

    Parameters
    ----------
    value : str
        The path in the record.
    mappings : Mapping[str, str] | None
        Where the cluster has network names and drives; without it, or if they do not say where
        this path is, it stays as it is recorded.
    """
    if mappings is None or not windows_paths.is_windows_path(value):
        return value
    try:
        return windows_paths.posix_path(value, mappings)
    except ValueError:
        return value


def written_path(value: object) -> str:
    """Return a path as it was written.

    Raises
    ------
    ValueError
        If the value is not a path.
    """
    if isinstance(value, str):
        return value
    given = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(given, str):
        raise ValueError(f"{quoted(value)} is no path; {_PATH_RIGHT}")
    return given


def _without_slash(text: str) -> str:
    """Remove slashes at the end of a path, and blanks before them."""
    while len(text) > 1 and text.endswith("/"):
        text = plain_text.trim(text[:-1])
    return text


def optional_path(value: object, mappings: Mapping[str, str] | None = None) -> PurePosixPath | None:
    """Take an absolute path; a blank one is none at all."""
    return None if is_left_out(value) else path(value, mappings)


def subject_id(value: object) -> str:
    """Take a subject's id: letters, digits, `-` and `.`, at most 64, beginning and ending with
    letter or digit.

    It is a part of the asset's name, whose parts are set apart by `_`: so it holds neither `_` nor
    `/`. A whole number becomes its digits (`690165.0`, as programs write it, is `690165`).
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"{quoted(value)} is no subject id; write one such as 690165")
    stripped = plain_text.trim(value)
    if not stripped:
        raise ValueError("empty; write the subject's id, such as 690165")
    if found := _WHOLE.fullmatch(stripped):
        return found[1]
    refuse_no_value(stripped)
    if stripped.lower() in _TRUTH_VALUES:
        raise ValueError(
            f"{quoted(stripped)} is a check box or a truth value; write the subject's id, such as "
            "690165, in a column that is formatted as text"
        )
    if _SCIENTIFIC.fullmatch(stripped):
        raise ValueError(
            f"{quoted(stripped)} is no subject id; write the id once more, in a column that is "
            "formatted as text: the spreadsheet program took it for a number"
        )
    if not _SUBJECT.fullmatch(stripped):
        plain_text.refuse(stripped, quoted(stripped))
        raise ValueError(
            f"{quoted(stripped)} is no subject id; write letters, digits, - and . only "
            "(it is a part of the asset's name), for example 690165"
        )
    return stripped


def bucket(value: object) -> str | None:
    """Take the name of a bucket: 3 to 63 lower-case letters, digits, `-`, `_` and `.`; blank means
    none. A word that stands for a bucket, such as `private`, is taken in any case.

    Underscores are not of today's Amazon, but of older buckets and of other stores.
    """
    if is_left_out(value):
        return None
    name = plain_text.trim(value) if isinstance(value, str) else ""
    refuse_no_value(name)
    if name.startswith("arn:"):
        raise ValueError(f"{quoted(value)} is an ARN; name the access point by its alias")
    if (word := name.lower()) in BUCKET_WORDS:
        return word
    if not _BUCKET.fullmatch(name) or ".." in name:
        _refuse_characters(value)
        raise ValueError(
            f"{quoted(value)} is no name of a bucket; write 3 to 63 lower-case letters, digits, "
            "- and . without s3:// or a folder, for example aind-open-data"
        )
    return name


def bucket_problem(name: str, allowed: Collection[str] | None) -> str:
    """Return why jobs may not upload to a bucket; an empty text if they may.

    Parameters
    ----------
    name : str
        The bucket.
    allowed : Collection[str] | None
        Names and patterns, such as `lab-*`; every bucket is allowed if there is none.
    """
    if not allowed or any(fnmatchcase(name, pattern) for pattern in allowed):
        return ""
    return (
        f"{quoted(name)} is not a bucket that jobs may upload to; choose one of "
        f"{', '.join(sorted(allowed))}, or have the administrator add it to ALLOWED_BUCKETS"
    )


def flag(value: object) -> bool:
    """Take yes or no: TRUE/FALSE, yes/no, y/n, t/f, on/off, 1/0, in any case."""
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        word = plain_text.trim(value).lower()
        if word in _YES:
            return True
        if word in _NO:
            return False
    _refuse_characters(value)
    raise ValueError(f"{quoted(value)} is neither yes nor no; write TRUE or FALSE")


def log_level(value: object) -> str:
    """Take the name of a log level, in any case."""
    word = plain_text.trim(value).upper() if isinstance(value, str) else ""
    if word not in LOG_LEVELS:
        _refuse_characters(value)
        near = nearest(word, LOG_LEVELS)
        hint = f'; did you mean "{near}"?' if near else ";"
        raise ValueError(f"{quoted(value)} is no log level{hint} Known are {', '.join(LOG_LEVELS)}")
    return word


def extra_configs(
    value: object, mappings: Mapping[str, str] | None = None
) -> dict[str, Any] | str | None:
    """Take extra settings: a JSON object, its text, or the absolute path of a file with one.

    The text `null` means none, as it does in JSON.
    """
    if is_left_out(value):
        return None
    if isinstance(value, str):
        value = plain_text.trim(value)
        if value == "null":
            return None
        if value[0] in "{[":
            return _json_object(value)
        refuse_no_value(value)
    if isinstance(value, Mapping):
        try:
            return _json_object(json.dumps(dict(value), allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"what they hold cannot be written as JSON: {error}") from error
    try:
        return str(path(value, mappings))
    except ValueError as error:
        raise ValueError(f'{error}; or write a JSON object such as {{"key": "value"}}') from error


def _json_object(source: str) -> dict[str, Any]:
    """Read a JSON object, no deeper and no odder than JSON can carry there and back."""
    try:
        found = json.loads(source, parse_constant=_no_constant)
        _refuse_depth(found, MAX_JSON_DEPTH)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{quoted(source)} is no valid JSON object: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(
            f'{quoted(source)} is no JSON object; write one such as {{"key": "value"}}'
        )
    if wrong := plain_text.first_wrong_places(found):
        raise ValueError(f"it holds {wrong}; correct it")
    return found


def _no_constant(name: str) -> None:
    """Refuse what is in Python's JSON and in nobody else's."""
    raise ValueError(f"{name} is not a JSON number")


def _refuse_depth(value: object, left: int) -> None:
    """Refuse what is nested deeper than `left` levels."""
    if isinstance(value, (dict, list)):
        if left == 0:
            raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
        for item in value.values() if isinstance(value, dict) else value:
            _refuse_depth(item, left - 1)


def is_left_out(value: object) -> bool:
    """Tell whether an optional value was left out."""
    return value is None or (isinstance(value, str) and not plain_text.trim(value))


def _refuse_characters(value: object) -> None:
    """Refuse what no text may hold, before anything else is said of it."""
    if isinstance(value, str):
        trimmed = plain_text.trim(value)
        plain_text.refuse(trimmed, quoted(trimmed))


def _refuse_path(value: str) -> None:
    """Say why a path is not absolute and POSIX; return where it is."""
    if not value:
        raise ValueError(f"empty; {_PATH_RIGHT}")
    if _ADDRESS.match(value):
        reason = "is an address and no path"
    elif not value.startswith("/"):
        reason = "does not begin with /"
    elif ".." in value.split("/"):
        reason = "holds .., so that nobody can tell where it leads"
    else:
        return
    raise ValueError(f"{quoted(value)} {reason}; {_PATH_RIGHT}")
