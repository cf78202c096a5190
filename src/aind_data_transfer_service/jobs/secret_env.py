"""Environment variables that users give their jobs (`hpc_settings.environment`). Pure.

They are recorded with the job, for it may be submitted again. What is recorded must be no secret: a
variable whose name sounds like one is refused. The values of the others are shown to nobody.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

NAME = "environment"
HIDDEN = "(not shown)"
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)


def variable_errors(settings: Mapping[str, Any]) -> list[str]:
    """Refuse variables that sound like secrets, by their names alone."""
    names = [name for name in _variables(settings.get(NAME)) if _SECRET.search(name)]
    if not names:
        return []
    return [
        f"hpc_settings.{NAME}: {', '.join(names)}: named like a secret, and the settings of a job "
        "are recorded; leave it out, and have the script read the secret from a file"
    ]


def without_values(text: str) -> str:
    """Write settings so that they can be shown: of the variables, the names alone.

    Examples
    --------
    >>> without_values('{"tasks": 2, "environment": {"MODE": "fast"}}')
    '{"tasks": 2, "environment": {"MODE": "(not shown)"}}'
    """
    try:
        settings = json.loads(text)
    except ValueError:
        return text
    if not isinstance(settings, dict) or not settings.get(NAME):
        return text
    names = _variables(settings[NAME])
    shown = dict.fromkeys(names, HIDDEN) if names else HIDDEN
    return json.dumps(settings | {NAME: shown}, ensure_ascii=False)


def _variables(value: Any) -> list[str]:
    """Name the variables, whether they come with their values or as a list of `NAME=value`."""
    if isinstance(value, Mapping):
        return [str(name) for name in value]
    if isinstance(value, list):
        return [item.partition("=")[0] for item in value if isinstance(item, str) and "=" in item]
    return []
