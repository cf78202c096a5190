"""Which properties of a job Slurm complains of, and what was sent for them. Pure."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aind_data_transfer_service.plain_text import listed
from aind_data_transfer_service.redaction import on_a_line

_LONGEST_VALUE, _MOST_NAMED = 80, 12
_RESOURCES = (
    *("partition", "nodes", "tasks", "tasks_per_node", "cpus_per_task", "minimum_cpus_per_node"),
    *("memory_per_node", "memory_per_cpu", "threads_per_core", "temporary_disk_per_node", "gres"),
    *("tres_per_node", "tres_per_job", "tres_per_task", "exclusive", "constraints"),
)
_ABOUT: Mapping[int, tuple[str, ...]] = {
    2000: ("partition",),
    2003: ("partition",),
    2006: ("nodes",),
    2014: _RESOURCES,
    2015: (*_RESOURCES, "time_limit"),
    2023: ("distribution",),
    2029: ("constraints",),
    2038: ("dependency",),
    2044: ("memory_per_node", "memory_per_cpu"),
    2045: ("account", "partition"),
    2048: ("licenses",),
    2051: ("time_limit", "deadline"),
    2053: ("reservation",),
    2054: ("begin_time", "deadline"),
    2063: ("current_working_directory",),
    2066: ("qos",),
    2070: ("partition",),
    2072: ("gres", "tres_per_node"),
    2081: ("array",),
    2115: ("gres", "tres_per_node", "tres_per_job", "tres_per_task"),
    2124: ("time_minimum", "time_limit"),
}
"""The properties that Slurm's own errors are about, by number."""
_PARSING = frozenset({9001, *range(9200, 9300)})
"""The errors of slurmrestd that could not read what was sent."""
_NEVER_SHOWN = frozenset({"environment", "script", "comment"})


def describe_sent(errors: Any, numbers: frozenset[int] | set[int], sent: Mapping[str, Any]) -> str:
    """Return the properties that errors are about, with what was sent for them; else nothing.

    Parameters
    ----------
    errors : Any
        The list of errors as slurmrestd answered it.
    numbers : set of int
        The numbers of the errors.
    sent : Mapping
        The job as it was sent.
    """
    text = "\n".join(_texts(errors))
    named = [name for name in sent if _is_named(name, text)]
    if not named:
        about = [name for number in sorted(numbers) for name in _ABOUT.get(number, ())]
        named = [name for name in dict.fromkeys(about) if name in sent]
    if not named and numbers & _PARSING:
        named = list(sent)
    shown = [f"{name} {_shown(sent[name])}" for name in named if name not in _NEVER_SHOWN]
    return listed(shown, _MOST_NAMED, ", ")


def _texts(errors: Any) -> Iterator[str]:
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, Mapping):
            yield from (value for value in error.values() if isinstance(value, str))


def _is_named(name: str, text: str) -> bool:
    """Return whether an error names a property, as `key "nodes"` or `#/job/nodes/`."""
    word = re.escape(name)
    return bool(re.search(rf'key "?{word}"?(?![\w"])|"{word}"|/job/{word}(?!\w)', text))


def _shown(value: Any) -> str:
    text = on_a_line(json.dumps(value, ensure_ascii=False, default=str), _LONGEST_VALUE + 1)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
