"""The job properties of Slurm's REST interface, by their v0.0.36 names.

People write them in `hpc_settings`, by the names of Slurm's own documentation of v0.0.36; the names
of later releases are understood too. What a later dialect calls them is the dialect's affair.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from aind_data_transfer_service.configs.vocabulary import nearest
from aind_data_transfer_service.slurmrest.sbatch_options import MEANT, WITHOUT_PROPERTY, option_name
from aind_data_transfer_service.slurmrest.units import MEGABYTES, MINUTES, to_megabytes, to_minutes

_MAX_SHOWN = 80
_LONGEST_TEXT = 4096
"""Characters of one text; Slurm's own fields are shorter."""
_LONGEST_VALUE = 32_768
"""Characters of one variable of the environment; Linux takes 131,072 bytes."""
_LARGEST = 2**31 - 1
_MOST_PER_NODE = 65_533
"""What Slurm counts in 16 bits, less the numbers that it keeps for "not set" and "infinite"."""
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SIGNED_OR_HUGE = re.compile(r"(?:^|[:=,/*\s])[-+]\s*[0-9]|[0-9]{10}")
_SIGNAL = re.compile(
    r"(?:(?:B|R|BR|RB):)?(?:SIG)?([A-Z]+[0-9]?|[0-9]{1,2})(?:@([0-9]{1,5}))?", re.I
)
_SIGNALS = frozenset(
    "ABRT ALRM CONT HUP INT KILL QUIT STOP TERM TSTP TTIN TTOU URG USR1 USR2 XCPU".split()
)
"""The signals that Slurm knows by name. From v0.0.40 on it takes any other name, and ignores it."""
_LARGEST_SIGNAL = 64
_LONGEST_WARNING = 65_535
"""Seconds before a job's end."""
_YES = frozenset({"true", "yes", "1"})
_NO = frozenset({"false", "no", "0"})


class _Bad(Exception):
    """A value is not what its property takes; the text says what would be right."""


def _plain(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Bad("a text")
    return str(value)


def _text(value: Any) -> str:
    text = _plain(value)
    if _UNPRINTABLE.search(text):
        raise _Bad("a text on one line, without control or direction characters")
    if len(text) > _LONGEST_TEXT:
        raise _Bad(f"a text of at most {_LONGEST_TEXT:,} characters")
    return text


def _one_line(value: Any) -> str:
    return _text(re.sub(r"[\t\r\n]+", " ", _plain(value)))


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise _Bad("a whole number")
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", value):
        return int(value)
    raise _Bad("a whole number")


def _between(least: int, most: int) -> Callable[[Any], int]:
    def bounded(value: Any) -> int:
        number = _integer(value)
        if not least <= number <= most:
            raise _Bad(f"a whole number from {least:,} to {most:,}")
        return number

    return bounded


_count = _between(1, _LARGEST)
_count_or_none = _between(0, _LARGEST)
_per_node = _between(1, _MOST_PER_NODE)


def _minutes(value: Any) -> int:
    """Take minutes, or a time as `sbatch --time` takes it."""
    return _amount(to_minutes(value), MINUTES, 1, "minutes")


def _megabytes(value: Any) -> int:
    """Take megabytes, or a size as `sbatch --mem` takes it."""
    return _amount(to_megabytes(value), MEGABYTES, 0, "megabytes")


def _amount(value: Any, right: str, least: int, unit: str) -> int:
    """Take a whole number; `right` says what to write in place of something else."""
    try:
        number = _integer(value)
    except _Bad as error:
        raise _Bad(right) from error
    if not least <= number <= _LARGEST:
        raise _Bad(f"{least} to {_LARGEST:,} {unit}")
    return number


def _resources(value: Any) -> str:
    """Take counts of resources, such as `2`, `a100:2` or `gpu:2,ssd:1`; none is negative."""
    text = _text(value)
    if _SIGNED_OR_HUGE.search(text):
        raise _Bad("counts of at most nine digits, such as 2 or gpu:2")
    return text


def _signal(value: Any) -> str:
    text = _text(value)
    found = _SIGNAL.fullmatch(text)
    if found is None:
        raise _Bad("a signal, such as TERM, B:TERM or TERM@60")
    name, seconds = found[1].upper(), int(found[2] or 0)
    is_known = name in _SIGNALS or (name.isdigit() and 1 <= int(name) <= _LARGEST_SIGNAL)
    if not is_known:
        names = ", ".join(sorted(_SIGNALS))
        raise _Bad(f"one of the signals {names}, or a number from 1 to {_LARGEST_SIGNAL}")
    if seconds > _LONGEST_WARNING:
        raise _Bad(f"a signal at most {_LONGEST_WARNING:,} seconds before the end")
    return text


def _truth(value: Any) -> bool:
    word = str(value).strip().lower() if isinstance(value, bool | int | str) else ""
    if word not in _YES | _NO:
        raise _Bad("true or false")
    return word in _YES


def _from_json(value: Any) -> Any:
    """Read a list that was written as text, as environment variables have to."""
    if isinstance(value, str) and value.strip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _Bad("a list") from error
    return value


def _nodes(value: Any) -> list[int]:
    """Take `2`, `[1, 2]`, `"[1,2]"` or `"1-2"` as the fewest and the most nodes."""
    right = "the fewest and the most nodes, such as [1, 1]"
    value = _from_json(value)
    if isinstance(value, str):
        value = value.split("-")
    counts = value if isinstance(value, list | tuple) else [value]
    try:
        numbers = [_integer(count) for count in counts]
    except _Bad as error:
        raise _Bad(right) from error
    fits = 1 <= len(numbers) <= 2 and 1 <= numbers[0] <= numbers[-1] <= _LARGEST
    if not fits:
        raise _Bad(right)
    return [numbers[0], numbers[-1]]


def _words(value: Any) -> list[str]:
    value = _from_json(value)
    if not isinstance(value, list | tuple):
        raise _Bad("a list of texts")
    return [_text(item) for item in value]


def _listed(value: Any) -> list[str]:
    """Take a list, or words with commas between them."""
    value = _from_json(value)
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise _Bad("a list of words, such as END,FAIL")
    return [_text(item).strip() for item in items if _text(item).strip()]


def _environment(value: Any) -> dict[str, str]:
    """Take names with values, or a list of `NAME=value`."""
    if isinstance(value, list | tuple) and all(isinstance(x, str) and "=" in x for x in value):
        value = dict(item.split("=", 1) for item in value)
    if not isinstance(value, Mapping):
        raise _Bad('names with values, such as {"NAME": "value"}')
    for name in value:
        if not re.fullmatch(r"[^=\0]+", str(name)):
            raise _Bad("names with values; a name is neither empty nor has a = in it")
    found = {str(name): _plain(item) for name, item in value.items()}
    if any(len(text) > _LONGEST_VALUE or "\0" in text for text in found.values()):
        raise _Bad(f"values of at most {_LONGEST_VALUE:,} characters, without NUL")
    return found


def _one_of(*choices: str) -> Callable[[Any], str]:
    def choice(value: Any) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise _Bad("one of " + ", ".join(choices))
        return word

    return choice


PROPERTIES: Mapping[str, Callable[[Any], Any]] = {
    "account": _text,
    "account_gather_freqency": _text,  # so spelled by Slurm
    "argv": _words,
    "array": _text,
    "batch_features": _text,
    "begin_time": _text,
    "burst_buffer": _text,
    "cluster_constraints": _text,
    "comment": _one_line,
    "constraints": _text,
    "core_specification": _between(0, _MOST_PER_NODE),
    "cores_per_socket": _per_node,
    "cpu_binding": _text,
    "cpu_binding_hint": _text,
    "cpu_frequency": _text,
    "cpus_per_gpu": _resources,
    "cpus_per_task": _per_node,
    "current_working_directory": _text,
    "deadline": _text,
    "delay_boot": _count_or_none,
    "dependency": _text,
    "distribution": _text,
    "environment": _environment,
    "exclusive": _one_of("user", "mcs", "true", "false"),
    "get_user_environment": _truth,
    "gpu_binding": _text,
    "gpu_frequency": _text,
    "gpus": _resources,
    "gpus_per_node": _resources,
    "gpus_per_socket": _resources,
    "gpus_per_task": _resources,
    "gres": _resources,
    "gres_flags": _one_of("disable-binding", "enforce-binding"),
    "hold": _truth,
    "kill_on_invalid_dependency": _truth,
    "licenses": _resources,
    "mail_type": _listed,
    "mail_user": _text,
    "mcs_label": _text,
    "memory_binding": _text,
    "memory_per_cpu": _megabytes,
    "memory_per_gpu": _megabytes,
    "memory_per_node": _megabytes,
    "minimum_cpus_per_node": _per_node,
    "minimum_nodes": _truth,
    "name": _one_line,
    "nice": _between(-2_147_483_645, 2_147_483_645),
    "no_kill": _truth,
    "nodes": _nodes,
    "open_mode": _one_of("append", "truncate"),
    "partition": _text,
    "priority": _between(0, 2**32 - 3),
    "qos": _text,
    "requeue": _truth,
    "reservation": _text,
    "signal": _signal,
    "sockets_per_node": _per_node,
    "spread_job": _truth,
    "standard_error": _text,
    "standard_in": _text,
    "standard_out": _text,
    "tasks": _count,
    "tasks_per_core": _per_node,
    "tasks_per_node": _per_node,
    "tasks_per_socket": _per_node,
    "thread_specification": _between(0, _MOST_PER_NODE),
    "threads_per_core": _per_node,
    "time_limit": _minutes,
    "time_minimum": _minutes,
    "wait_all_nodes": _truth,
    "wckey": _text,
}
"""Every job property of v0.0.36, and what reads its value."""

LATER_NAMES: Mapping[str, str] = {
    "account_gather_frequency": "account_gather_freqency",
    "cluster_constraint": "cluster_constraints",
    "standard_input": "standard_in",
    "standard_output": "standard_out",
}
"""What later releases call a property, and what v0.0.36 does."""


def property_meant(name: str) -> str | None:
    """Return the property that an option of `sbatch` or of another scheduler stands for, if any.

    Parameters
    ----------
    name : str
        The option, with or without hyphens before it.

    Examples
    --------
    >>> [property_meant(name) for name in ("--mem", "-t", "exclude")]
    ['memory_per_node', 'time_limit', None]
    """
    option = option_name(name)
    return option if option in PROPERTIES else MEANT.get(option)


def read_properties(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Check job properties, and put their values into one form.

    Parameters
    ----------
    given : Mapping
        Properties as a person or an environment variable wrote them: numbers may be texts, a list
        may be JSON. A property that is None or an empty text is left out.

    Returns
    -------
    tuple of dict and list of str
        The properties by their v0.0.36 names, and what is wrong, one sentence a property.
    """
    properties: dict[str, Any] = {}
    problems: list[str] = []
    for written, value in given.items():
        name = LATER_NAMES.get(written, written)
        read = PROPERTIES.get(name)
        if read is None:
            problems.append(_unknown(str(written)))
        elif name in properties:
            problems.append(f"{written}: is the same as {name}, which is there too; give one")
        elif value not in (None, ""):  # an empty text makes some slurmrestd crash
            try:
                properties[name] = read(value)
            except _Bad as right:
                shown = "what is given" if name == "environment" else _shown(value)
                problems.append(f"{written}: {shown} is wrong here; write {right}")
    return properties, problems


def read_property(name: str, value: Any) -> Any:
    """Read the value of one property.

    Parameters
    ----------
    name : str
        The property.
    value : Any
        What was written.

    Raises
    ------
    ValueError
        If the value is wrong; the text says what was found and what would be right.
    """
    try:
        return PROPERTIES[name](value)
    except _Bad as right:
        raise ValueError(f"{_shown(value)} is wrong here; write {right}") from right


def _unknown(name: str) -> str:
    if reason := WITHOUT_PROPERTY.get(option_name(name)):
        return f"{_shown(name)} is no job property of Slurm's REST API; {reason}"
    guess = property_meant(name) or nearest(name, PROPERTIES)
    meant = f"; did you mean {guess}?" if guess else "; see job properties of Slurm's REST API"
    return f"{_shown(name)} is no job property of Slurm{meant}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
