"""What slurmrestd of Slurm 22.05 takes for a submission in v0.0.36, and what it refuses.

`tests/unit/mock_cluster/recorded_submissions.json` holds the answers of a real one, with which a
test compares this. Standard library only.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

LARGEST_ARRAY = 1001
"""Slurm's own MaxArraySize."""
_SWITCHED_OFF = frozenset({"cpu_binding", "excluded_nodes", "priority", "required_nodes"})
_TEXTS = frozenset(
    """account account_gather_frequency array batch_features burst_buffer cluster_constraint comment
    constraints cpu_frequency current_working_directory delay_boot dependency get_user_environment
    gpu_binding gpu_frequency gpus gpus_per_node gpus_per_socket gpus_per_task cpus_per_gpu gres
    gres_flags hold kill_on_invalid_dependency licenses mail_user memory_binding memory_per_gpu
    minimum_nodes name no_kill no_requeue partition qos requeue reservation spread_job
    standard_error standard_in standard_input standard_out standard_output wait_all_nodes wckey
    argv""".split()
)
_SIGNAL = re.compile(
    r"(?:R:)?(?:(?:SIG)?(?:ABRT|ALRM|CONT|HUP|INT|KILL|QUIT|STOP|TERM|TSTP|TTIN|TTOU|URG|USR1|USR2"
    r"|XCPU)|[1-9]\d*)(?:@(\d{1,5}))?",
    re.I,
)
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_MOMENT = re.compile(r"now(?:\+\d+(?:[a-z]+)?)?|\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?)?")
_MEMORY = re.compile(r"\d+[KMGT]?", re.I)
_ARRAY = re.compile(r"\d+(?:-\d+)?(?::\d+)?(?:,\d+(?:-\d+)?(?::\d+)?)*(?:%\d+)?")
_DEPENDENCY = re.compile(r"|singleton|after[a-z]*:\d+.*")
_MAIL = frozenset({"NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "STAGE_OUT", "TIME_LIMIT"})
_CONFIGURATION = 2014, "Requested node configuration is not available"
_UNAVAILABLE = 2015, "Requested partition configuration not available now"
_HELD = 2042, "Job is in held state, pending scheduler release"

Complaint = tuple[int, str]


class Refusal(Exception):
    """A submission is refused.

    Attributes
    ----------
    errors : tuple
        Number and text of each error.
    status : int
        The HTTP status.
    """

    def __init__(self, *errors: Complaint, status: int = 500) -> None:
        super().__init__(errors[0][1])
        self.errors = errors
        self.status = status


class Crash(Exception):
    """The real server dies of this submission."""


class _Wrong(Exception):
    """A value cannot be read; the error may have no text of its own."""

    def __init__(self, text: str = "", number: int = -1) -> None:
        super().__init__(text)
        self.complaints = [(number, text)] if text else []


def read_submission(request: Any) -> tuple[str, dict[str, Any]]:
    """Take the script and the properties out of a submission."""
    job = request.get("job") if isinstance(request, Mapping) else None
    if isinstance(job, list):
        raise Refusal((-1, "Unspecified error"))
    if not isinstance(job, Mapping):
        text = "Jobs description entry not found, empty or not dictionary or list"
        raise Refusal((9002, text), status=400)
    properties = {}
    for key, value in job.items():
        try:
            properties[key] = _read(key, value)
        except _Wrong as error:
            failed = (-1, f"process failed for key {key} with error: Unspecified error")
            raise _unreadable(*error.complaints, failed) from error
    if not properties.get("environment"):
        raise _unreadable((2127, "environment must be set"))
    if "script" not in request:
        raise Refusal((2009, "Job script not specified"))
    return str(request["script"]), properties


def _unreadable(*errors: Complaint) -> Refusal:
    return Refusal(*errors, (9001, "Failure during parsing"), status=400)


def _read(key: str, value: Any) -> Any:
    """Read one property."""
    if key in _SWITCHED_OFF:
        raise _unreadable((-1, f'Disabled key: "{key}"'))
    if key in _READERS:
        return _READERS[key](value)
    if key not in _TEXTS:
        raise _unreadable((3, f'Unknown key "{key}": No such process'))
    if isinstance(value, list | dict) and key != "argv":
        raise _Wrong
    return value


def _integer(value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and re.fullmatch(r"-?\d+", value)):
        return int(value)
    raise _Wrong("Unable to read integer value", 9202)


def _bounded(least: int, most: int, small: str, large: str = "") -> Callable[[Any], int]:
    def read(value: Any) -> int:
        number = _integer(value)
        if number < least or number > most:
            raise _Wrong(small if number < least else large)
        return number

    return read


def _text_like(pattern: re.Pattern[str], text: str, number: int = -1) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if isinstance(value, bool) or not pattern.fullmatch(str(value)):
            raise _Wrong(text, number)
        return str(value)

    return read


def _minutes(value: Any) -> int | None:
    """Read a time limit; None for none."""
    text = "" if isinstance(value, bool | float) or value is None else str(value)
    if text.upper() in ("INFINITE", "UNLIMITED", "-1", "0"):
        return None
    if not (found := _TIME.fullmatch(text)):
        raise _Wrong("Invalid time specification")
    days, first, second, third = (int(part or 0) for part in found.groups())
    if days:
        return 1440 * days + 60 * first + second + (third > 0)
    if found[4]:
        return 60 * first + second + (third > 0)
    return first + (second > 0)


def _node_counts(value: Any) -> tuple[int, int] | None:
    """Read the fewest and the most nodes; a list of two is taken and ignored."""
    if isinstance(value, list):
        if len(value) != 2:
            raise _Wrong("Invalid node count list size")
        return None
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", str(value))
    if str(value) == "-1":
        return None
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise _Wrong("Invalid node count string")
    return int(found[1]), int(found[2] or found[1])


def _signal(value: Any) -> str:
    found = _SIGNAL.fullmatch(str(value))
    if not found or int(found[1] or 0) > 65_535:
        raise _Wrong("Invalid SIGNAL specification")
    return str(value)


def _mail(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong("Unable to read string", 9202)
    if not set(value.upper().split(",")) <= _MAIL:
        raise _Wrong("Invalid mail type specification")
    return value


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _Wrong("environment must be a dictionary")
    return {str(name): str(text) for name, text in value.items()}


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "begin_time": _text_like(_MOMENT, "Unable to parse time", 2054),
    "core_specification": _integer,
    "cores_per_socket": _integer,
    "cpus_per_task": _bounded(1, 2**31 - 1, "cpus per task much be greater than 0"),
    "deadline": _text_like(_MOMENT, "Invalid deadline time"),
    "distribution": _text_like(
        re.compile(r"(?:block|cyclic|plane|arbitrary)(?:[:=,].*)?"), "Invalid distribution"
    ),
    "environment": _environment,
    "exclusive": _text_like(
        re.compile("user|mcs|exclusive|oversubscribe"), "Invalid exclusive specification"
    ),
    "mail_type": _mail,
    "memory_per_cpu": _text_like(_MEMORY, "Invalid --mem-per-cpu specification"),
    "memory_per_node": _text_like(_MEMORY, "Invalid memory specification"),
    "minimum_cpus_per_node": _integer,
    "nice": _bounded(-(2**31) + 3, 2**31 - 3, "Nice too small", "Nice too large"),
    "nodes": _node_counts,
    "open_mode": _text_like(re.compile("append|truncate"), "Invalid open mode specification"),
    "signal": _signal,
    "sockets_per_node": _integer,
    "tasks": _bounded(1, 2**31 - 2, "ntasks too small", "ntasks too large"),
    "tasks_per_core": _integer,
    "tasks_per_node": _integer,
    "tasks_per_socket": _integer,
    "temporary_disk_per_node": _integer,
    "thread_specification": _integer,
    "threads_per_core": _integer,
    "time_limit": _minutes,
}


def admit(
    properties: Mapping[str, Any], partitions: frozenset[str], cpus: int, memory_mb: int
) -> list[Complaint]:
    """Decide as slurmctld does on a cluster of one node; return what it complains of.

    Parameters
    ----------
    properties : Mapping
        The properties as `read_submission` returns them.
    partitions : frozenset of str
        The names of the partitions.
    cpus, memory_mb : int
        What the node has.
    """
    get = properties.get
    if "gres" in properties:
        if get("gres"):
            raise Crash
        raise Refusal((2115, "Invalid Trackable RESource (TRES) specification"))
    asked = set(str(get("partition")).split(",")) if "partition" in properties else set()
    checks: tuple[tuple[bool, Complaint], ...] = (
        (not asked <= partitions, (2000, "Invalid partition name specified")),
        (bool(get("licenses")), (2048, "Invalid license specification")),
        (bool(get("constraints")), (2029, "Invalid feature specification")),
        (bool(get("reservation")), (2053, "Requested reservation is invalid")),
        (not _is_array(get("array")), (2081, "Invalid job array specification")),
        (not _DEPENDENCY.fullmatch(str(get("dependency", ""))), (2038, "Job dependency problem")),
        (_is_past(get("deadline")), (2051, _LATE)),
        ((get("nodes") or (1,))[0] == 0, (2006, "Node count specification invalid")),
        (_exceeds_node(properties, cpus, memory_mb), _CONFIGURATION),
    )
    for is_wrong, complaint in checks:
        if is_wrong:
            raise Refusal(complaint)
    wanted = get("tasks", 1) * get("cpus_per_task", 1)
    found = [_UNAVAILABLE] if wanted > cpus or (get("nodes") or (1,))[0] > 1 else []
    return [*found, *([_HELD] if get("hold") else [])]


_LATE = "Requested time limit is invalid (missing or exceeds some limit)"


def _is_array(value: Any) -> bool:
    if value is None:
        return True
    numbers = [int(number) for number in re.findall(r"\d+", str(value))]
    return bool(_ARRAY.fullmatch(str(value))) and max(numbers) < LARGEST_ARRAY


def _is_past(value: Any) -> bool:
    if value is None or not str(value)[0].isdigit():
        return False
    return datetime.fromisoformat(str(value)) < datetime.now()


def _exceeds_node(properties: Mapping[str, Any], cpus: int, memory_mb: int) -> bool:
    """Return whether a job asks for a larger node."""
    memory = (_megabytes(properties.get(f"memory_per_{one}", "0")) for one in ("node", "cpu"))
    per_node = (properties.get(name, 0) for name in ("minimum_cpus_per_node", "tasks_per_node"))
    return (
        any(size > memory_mb for size in memory)
        or any(number > cpus for number in per_node)
        or properties.get("threads_per_core", 1) > 1
        or properties.get("temporary_disk_per_node", 0) > 0
    )


def _megabytes(text: str) -> float:
    factor = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}.get(text[-1].upper(), 1)
    return float(text.rstrip("KMGTkmgt")) * factor
