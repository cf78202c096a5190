"""Partitions and qualities of service as slurmrestd lists them, in every version.

Only what is certain is read: a number that is missing, zero, negative or absurd is no limit.
Seen on real servers: Slurm 22.05 (v0.0.36 to v0.0.38), 24.11 (v0.0.40 to v0.0.42) and 26.05
(v0.0.42 to v0.0.45).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aind_data_transfer_service.slurmrest.parsing import read_number

_NO_LIMIT = 2**31 - 1
"""Larger numbers stand for "infinite"."""
_ACCEPTS_JOBS, _STARTS_JOBS = 1, 2
"""The bits of a partition's state (v0.0.36)."""
_CLOSED = frozenset({"DRAIN", "INACTIVE"})
"""The states in which a partition refuses jobs. One that is DOWN lets them wait."""
_ALL = frozenset({"all", "n/a", "(null)"})
"""What Slurm writes for a list that restricts nothing."""


@dataclass(frozen=True)
class SlurmPartition:
    """A partition, and what it allows; None and empty are "no limit"."""

    name: str
    is_default: bool = False
    """Whether jobs without a partition run here. No partition says so from v0.0.40 on."""
    closed: str = ""
    """DRAIN or INACTIVE if the partition refuses jobs now."""
    alternate: str = ""
    """The partition that gets its jobs while it is closed."""
    stands_in_for: str = ""
    """The closed partition whose jobs this one gets, if a job named that one."""
    is_up: bool = True
    """Whether it starts jobs now."""
    max_minutes: int | None = None
    max_nodes: int | None = None
    min_nodes: int | None = None
    max_cpus_per_node: int | None = None
    max_memory_per_node_mb: int | None = None
    total_nodes: int | None = None
    total_cpus: int | None = None
    allowed_qos: frozenset[str] = frozenset()
    denied_qos: frozenset[str] = frozenset()
    allowed_accounts: frozenset[str] = frozenset()
    denied_accounts: frozenset[str] = frozenset()
    qos: str = ""
    """The quality of service that all its jobs have besides their own."""


@dataclass(frozen=True)
class SlurmQos:
    """A quality of service of slurmdbd's."""

    name: str
    lifts_limits: bool = False
    """Whether its jobs may exceed limits of their partition."""


def read_partitions(answer: Mapping[str, Any]) -> list[SlurmPartition]:
    """Read a list of partitions."""
    listed = answer.get("partitions")
    records = listed if isinstance(listed, list) else []
    found = (_read_partition(raw) for raw in records if isinstance(raw, Mapping))
    return [partition for partition in found if partition.name]


def read_qos(answer: Mapping[str, Any]) -> list[SlurmQos]:
    """Read a list of qualities of service."""
    listed = answer.get("qos", answer.get("QOS"))
    records = listed if isinstance(listed, list) else []
    return [
        SlurmQos(
            str(raw["name"]),
            any(str(flag).upper().startswith("PARTITION") for flag in _listed(raw.get("flags"))),
        )
        for raw in records
        if isinstance(raw, Mapping) and raw.get("name")
    ]


def _read_partition(raw: Mapping[str, Any]) -> SlurmPartition:
    """Read a partition in either form."""
    most, lists = _group(raw, "maximums"), {}
    for kind in ("qos", "accounts"):
        group = _group(raw, kind)
        lists[f"allowed_{kind}"] = _names(group.get("allowed", raw.get(f"allowed_{kind}")))
        lists[f"denied_{kind}"] = _names(group.get("deny", raw.get(f"denied_{kind}")))
    fewest = raw.get("min_nodes_per_job", raw.get("min nodes per job"))
    memory = most.get("partition_memory_per_node", raw.get("maximum_memory_per_node"))
    return SlurmPartition(
        name=_text(raw.get("name")),
        is_default="default" in {str(flag).lower() for flag in _listed(raw.get("flags"))},
        closed=_closed(raw),
        alternate=_text(raw.get("alternate", raw.get("alternative"))),
        stands_in_for="",
        is_up=_is_up(raw),
        max_minutes=_limit(most.get("time", raw.get("max_time_limit"))),
        max_nodes=_limit(most.get("nodes", raw.get("maximum_nodes_per_job"))),
        min_nodes=_limit(_group(raw, "minimums").get("nodes", fewest)),
        max_cpus_per_node=_limit(most.get("cpus_per_node", raw.get("maximum_cpus_per_node"))),
        max_memory_per_node_mb=_limit(memory),
        total_nodes=_limit(_group(raw, "nodes").get("total", raw.get("total_nodes"))),
        total_cpus=_limit(_group(raw, "cpus").get("total", raw.get("total_cpus"))),
        qos=_text(_group(raw, "qos").get("assigned", raw.get("qos"))),
        **lists,
    )


def _closed(raw: Mapping[str, Any]) -> str:
    """Return the state of a partition that refuses jobs; empty if it takes them."""
    bits = _state_bits(raw)
    if bits is not None:
        return "" if bits & _ACCEPTS_JOBS else "DRAIN or INACTIVE"
    return next((word for word in _states(raw) if word in _CLOSED), "")


def _is_up(raw: Mapping[str, Any]) -> bool:
    bits = _state_bits(raw)
    return bool(bits & _STARTS_JOBS) if bits is not None else "DOWN" not in _states(raw)


def _state_bits(raw: Mapping[str, Any]) -> int | None:
    """Read the state of a partition as v0.0.36 writes it, by the name of something else."""
    is_of_later_form = "state" in raw or "partition" in raw
    return None if is_of_later_form else read_number(raw.get("nodes_online"))


def _states(raw: Mapping[str, Any]) -> list[str]:
    states = _listed(_group(raw, "partition").get("state", raw.get("state")))
    return [str(word).upper() for word in states]


def _limit(value: Any) -> int | None:
    """Read a limit; None if there is none."""
    number = read_number(value)
    return number if number is not None and 0 < number < _NO_LIMIT else None


def _group(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    group = raw.get(name)
    return group if isinstance(group, Mapping) else {}


def _listed(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    return [value] if isinstance(value, str) and value else []


def _names(value: Any) -> frozenset[str]:
    """Read names, listed or with commas between them; in lower case, as Slurm compares them."""
    words = [word.strip().casefold() for text in _listed(value) for word in str(text).split(",")]
    names = frozenset(word for word in words if word)
    return frozenset() if names & _ALL else names


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
