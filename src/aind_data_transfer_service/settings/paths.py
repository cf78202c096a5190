"""How the paths of requests and the names in sources are read."""

import json
from typing import Annotated, Any

from pydantic import PlainValidator

from aind_data_transfer_service.configs.validators import path
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.configs.windows_paths import (
    is_windows_path,
    mapping_key,
    normal_form,
)
from aind_data_transfer_service.settings.json_objects import read_object, refuse
from aind_data_transfer_service.source_paths.excluded_names import ExcludedNames

_ORDINARY = (
    ("a", "0", "Probe-7_x", "data bin", "~x"),
    ("a.b", "data.bin", "0.5.zarr", "X_1.NPY", "~x.dat"),
)
"""Names of data. A pattern of all of a group is a mistake: it would exclude nearly everything."""
_EXAMPLE = '{"//server/share": "/vast/share", "Z:": "/vast/lab"}'


def _read_mappings(value: Any) -> dict[str, str]:
    """Read where network names and drives are, and return it by the keys of `windows_paths`."""
    found, mistakes = read_object(value, _EXAMPLE)
    mappings: dict[str, str] = {}
    for name, folder in found.items():
        try:
            key = _key(name)
            mappings[key] = _folder(folder) if key not in mappings else _refuse_twice()
        except ValueError as error:
            mistakes.append(f"{quoted(name)}: {error}")
    refuse(mistakes)
    return mappings


def _key(name: str) -> str:
    """Return the key of a network name or drive."""
    written = name.strip()
    if not is_windows_path(written):
        raise ValueError("is not a network name or a drive; write one such as //server/share or Z:")
    return mapping_key(normal_form(written, least=1))


def _folder(value: Any) -> str:
    """Return the folder where it is."""
    if isinstance(value, str) and is_windows_path(value.strip()):
        raise ValueError(f"{quoted(value)} is not a path of the cluster; write one such as /vast")
    return str(path(value))


def _refuse_twice() -> str:
    """Refuse a name that differs from an earlier one in nothing that counts."""
    raise ValueError("is the same as another one; remove one of them")


def _read_names(value: Any) -> tuple[str, ...]:
    """Read patterns of names, separated by commas or as a JSON list, which may be empty."""
    if isinstance(value, str):
        value = _json_list(value) if value.lstrip().startswith("[") else _split(value)
    mistakes, patterns = [], []
    for pattern in value:
        name = pattern.strip() if isinstance(pattern, str) else ""
        if not name or "/" in name or not name.isprintable():
            mistakes.append(
                f"{quoted(pattern)} is not a name or a pattern of names; write one such as *.tmp, "
                "without a folder"
            )
        elif common := _common(name):
            mistakes.append(
                f"{quoted(pattern)} would exclude nearly every name, such as "
                f"{' and '.join(common)}; write a longer one"
            )
        else:
            patterns.append(name)
    refuse(mistakes)
    return tuple(patterns)


def _common(pattern: str) -> tuple[str, ...]:
    """Return names of data of which a pattern matches so many that it must be a mistake."""
    match = ExcludedNames([pattern]).match
    found = (group[:2] for group in _ORDINARY if not pattern.strip("*?") or all(map(match, group)))
    return next(found, ())


def _json_list(text: str) -> list[Any]:
    """Read a JSON list; a text that cannot be meant as one, as `[ab]*.txt`, is patterns."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("is nested too deeply; write a list of names") from error
    except json.JSONDecodeError as error:
        if not (set(text) & set("\"'") or text.rstrip(", \t\n").endswith("]")):
            return _split(text)
        raise ValueError(
            f"is not a JSON list: {error.msg} at character {error.pos + 1}; "
            'write ["*.tmp", "*.bak"], or *.tmp,*.bak'
        ) from error
    return found if isinstance(found, list) else [text]


def _split(text: str) -> list[str]:
    """Split patterns at commas."""
    patterns = [part for part in text.split(",") if part.strip()]
    if not patterns:
        raise ValueError("names nothing; leave it out, or write [] to exclude nothing")
    return patterns


PathMappings = Annotated[dict[str, str], PlainValidator(_read_mappings)]
NamePatterns = Annotated[tuple[str, ...], PlainValidator(_read_names)]
