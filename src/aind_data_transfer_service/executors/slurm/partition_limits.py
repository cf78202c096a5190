"""Whether a job fits into the partitions and nodes of a cluster. Pure.

A job is refused only if Slurm would surely refuse it, or queue it for ever. The rules are those of
real clusters (22.05 and 24.11): a job may name several partitions and runs in any that takes
it; a quality of service may lift the limits of a partition; `memory_per_cpu` above a partition's
`MaxMemPerCPU` is no error, because Slurm gives the job more CPUs.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aind_data_transfer_service.executors.base import CappedLimits
from aind_data_transfer_service.plain_text import listed
from aind_data_transfer_service.slurmrest.models import SlurmNode
from aind_data_transfer_service.slurmrest.partitions import SlurmPartition, SlurmQos

_NAMED = 10
"""How many partitions or other names a sentence lists at most."""
_GPUS = ("gpus", "gpus_per_node", "gpus_per_socket", "gpus_per_task", "cpus_per_gpu")
CHECKED = frozenset(
    {
        *("account", "cpus_per_task", "exclusive", "gres", "memory_per_cpu", "memory_per_node"),
        *("minimum_cpus_per_node", "nodes", "partition", "qos", "tasks", "tasks_per_node"),
        *("time_limit", "time_minimum", *_GPUS),
    }
)
"""The properties that are compared with what a cluster allows."""
_MAX_TIME = "allows at most {:,} minutes (MaxTime)"
_MAX_MEMORY = "allows at most {:,} {} on a node (MaxMemPerNode)"
_NO_LARGER_NODE = "has no node with more than {:,} {}"
Place = Callable[[str], str]
"""Returns the setting that a property of a job comes from, as `hpc_settings.tasks`."""


@dataclass(frozen=True)
class ClusterLimits:
    """What a cluster says of itself; whatever it did not say is empty."""

    partitions: Sequence[SlurmPartition] = ()
    nodes: Sequence[SlurmNode] = ()
    qos: Sequence[SlurmQos] | None = None
    """None if unknown: slurmrestd may not offer slurmdbd although the cluster has one."""
    are_nodes_told: bool = False
    """Whether the cluster answered which partitions and nodes it has, be it with empty lists."""


@dataclass(frozen=True)
class LimitFindings:
    """What is wrong with a job's properties, one sentence each, which begins with the setting."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Excess:
    """One property that one partition does not allow."""

    name: str
    found: str
    allowed: str
    can_be_lifted: bool = False
    """Whether a quality of service may allow it."""


def find_limits(
    properties: Mapping[str, Any], place: Place, cluster: ClusterLimits
) -> LimitFindings:
    """Check the properties of a job against what a cluster allows.

    Parameters
    ----------
    properties : Mapping
        The properties by their v0.0.36 names, as `read_properties` returns them.
    place : Callable
        Returns the setting that a property comes from.
    cluster : ClusterLimits
        What the cluster said of itself.
    """
    errors = [f"{place(name)}: {text}" for name, text in _contradictions(properties)]
    errors += [f"{place(name)}: {text}" for name, text in _missing_gres(properties, cluster)]
    warnings = [f"{place('qos')}: {text}" for text in _unknown_qos(properties, cluster)]
    if not cluster.partitions:
        return LimitFindings(tuple(errors), tuple(warnings))
    candidates, missing = _candidates(properties, cluster)
    errors += _missing(missing, place, cluster)
    if not candidates:
        return LimitFindings(tuple(errors), tuple(warnings))
    found = [(one, _excesses(properties, one, cluster)) for one in candidates]
    certain = [_certain(properties, one, excesses, cluster) for one, excesses in found]
    if all(certain):
        fitting = [
            one.name
            for one in cluster.partitions
            if one.is_up and one not in candidates and not _excesses(properties, one, cluster)
        ]
        errors += _sentences(list(zip(candidates, certain)), place, fitting)
        found = [
            (one, [excess for excess in excesses if excess not in sure])
            for (one, excesses), sure in zip(found, certain)
        ]
    if all(excesses for _, excesses in found):
        warnings += [
            f"{text}; the job waits unless its quality of service allows it"
            for text in _sentences(found, place, [])
        ]
    return LimitFindings(
        tuple(errors), (*warnings, *_account_warnings(properties, candidates, place))
    )


def cap_limits(
    limits: Mapping[str, int | None],
    properties: Mapping[str, Any],
    cluster: ClusterLimits,
    had: Mapping[str, int] | None = None,
) -> CappedLimits:
    """Lower a time limit and memory to what the partitions of a job allow, as far as is known.

    Of several partitions the one counts that allows most. A limit that the quality of service of
    the job may lift, or that an earlier attempt exceeded, is left.

    Parameters
    ----------
    limits : Mapping
        The limits by their v0.0.36 names; None stands for the default of the cluster.
    properties : Mapping
        The properties of the job.
    cluster : ClusterLimits
        What the cluster said of itself.
    had : Mapping, optional
        What an earlier attempt asked for or was given.
    """
    candidates = _candidates(properties, cluster)[0] if cluster.partitions else []
    capped = [_capped(limits, properties, one, cluster, had or {}) for one in candidates]
    given = [name for name, value in limits.items() if value]
    return max(
        capped or [CappedLimits(dict(limits))],
        key=lambda found: sum((found.limits[name] or 0) / (limits[name] or 1) for name in given),
    )


def takes_memory(megabytes: int, properties: Mapping[str, Any], cluster: ClusterLimits) -> bool:
    """Return whether each partition of a job has a node with so much memory, as far as is known.

    From v0.0.40 on a cluster does not say which partition is its default: all of them count then.

    Parameters
    ----------
    megabytes : int
        The memory that the job would ask for on a node.
    properties : Mapping
        The properties of the job.
    cluster : ClusterLimits
        What the cluster said of itself. Where `RealMemory` is not set, a node states 1 MB.
    """
    candidates = _candidates(properties, cluster)[0] if cluster.partitions else []
    return all(_has_memory(megabytes, one, cluster) for one in candidates)


def takes_exclusive(properties: Mapping[str, Any], cluster: ClusterLimits) -> bool:
    """Return whether each partition of a job gives it nodes of its own, as far as is known.

    It would get all CPUs of a node, which Slurm refuses where a partition limits them. The memory
    for all of its tasks has to fit on a node.

    Parameters
    ----------
    properties : Mapping
        The properties of the job.
    cluster : ClusterLimits
        What the cluster said of itself.
    """
    candidates = _candidates(properties, cluster)[0] if cluster.partitions else []
    megabytes = exclusive_memory(properties) or 0
    return not any(
        one.max_cpus_per_node or not _has_memory(megabytes, one, cluster) for one in candidates
    )


def exclusive_memory(properties: Mapping[str, Any]) -> int | None:
    """Return the memory on a node for a job with nodes of its own, if it states it per CPU.

    Slurm would count `memory_per_cpu` for each CPU of the node. It puts all tasks on one node if
    they fit and the job asks for no more nodes.
    """
    if (per_cpu := properties.get("memory_per_cpu")) is None:
        return None
    cpus = cpus_per_node(properties)
    if not properties.get("nodes"):
        cpus = max(cpus, properties.get("cpus_per_task", 1) * properties.get("tasks", 1))
    return int(per_cpu) * cpus


def _has_memory(megabytes: int, partition: SlurmPartition, cluster: ClusterLimits) -> bool:
    """Return whether a partition has a node with so much memory, and allows a job so much."""
    nodes: Sequence[SlurmNode] = _nodes_of(partition, cluster)
    if not any(node.partitions for node in cluster.nodes):  # v0.0.36 does not tell them
        nodes = cluster.nodes
    known = [node.memory_mb for node in nodes if node.memory_mb is not None]
    caps = (partition.max_memory_per_node_mb, max(known, default=None))
    return all(megabytes <= most for most in caps if most is not None)


def _capped(
    limits: Mapping[str, int | None],
    properties: Mapping[str, Any],
    partition: SlurmPartition,
    cluster: ClusterLimits,
    had: Mapping[str, int],
) -> CappedLimits:
    """Lower limits to what a partition allows."""
    found, qos = dict(limits), properties.get("qos") or ""
    notes: dict[str, str] = {}
    for name, cap, text in _caps(properties, partition, cluster):
        value = limits.get(name)
        if not value or value <= cap or had.get(name, 0) > cap:
            continue
        note = f'partition "{partition.name}" {text}'
        if name != "time_limit" or not _may_lift_limits(qos, partition, cluster):
            found[name] = min(found[name] or cap, cap)
        elif _lifts_limits(qos, partition, cluster):
            continue
        else:
            note += "; the job waits unless its quality of service allows more"
        notes.setdefault(name, note)
    return CappedLimits(found, notes)


def _caps(
    properties: Mapping[str, Any], partition: SlurmPartition, cluster: ClusterLimits
) -> Iterator[tuple[str, int, str]]:
    """List what a partition allows at most: the property, the limit, and the words for it."""
    if minutes := partition.max_minutes:
        yield "time_limit", minutes, _MAX_TIME.format(minutes)
    nodes = _nodes_of(partition, cluster)
    is_complete = bool(nodes) and len(nodes) == partition.total_nodes
    largest = _largest([node.memory_mb for node in nodes]) if is_complete else None
    caps = [(partition.max_memory_per_node_mb, _MAX_MEMORY), (largest, _NO_LARGER_NODE)]
    cpus = cpus_per_node(properties)
    for most, text in sorted((most, text) for most, text in caps if most):
        words = text.format(most, "MB")
        yield "memory_per_node", most, words
        yield "memory_per_cpu", most // cpus, f"{words}, for {cpus:,} CPUs" if cpus > 1 else words


def cpus_per_node(properties: Mapping[str, Any]) -> int:
    """Return how many CPUs a job gets at least on one of its nodes."""
    each = properties.get("cpus_per_task") or 1
    tasks = properties.get("tasks_per_node") or 1
    if (properties.get("nodes") or [2])[-1] == 1:  # all of them are on one node
        tasks = max(tasks, properties.get("tasks") or 1)
    return max(each * tasks, properties.get("minimum_cpus_per_node") or 1)


def _contradictions(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Find properties that exclude each other on any cluster."""
    limit, fewest = properties.get("time_limit"), properties.get("time_minimum")
    if limit is not None and fewest is not None and fewest > limit:
        yield "time_minimum", f"{fewest:,} minutes; time_limit is {limit:,}; ask for at most that"


def _missing_gres(
    properties: Mapping[str, Any], cluster: ClusterLimits
) -> Iterator[tuple[str, str]]:
    """Find generic resources that no node has; some versions of slurmrestd crash on them."""
    asked = ",".join(_counted(str(properties.get("gres") or "")))
    wanted = [("gres", name) for name in dict.fromkeys(_gres_names(asked))]
    wanted += [(name, "gpu") for name in _GPUS if any(_counted(str(properties.get(name) or "")))]
    if not wanted or not cluster.nodes or not _are_all_listed(cluster):
        return
    known = {name.casefold() for node in cluster.nodes for name in _gres_names(node.gres)}
    for name, resource in wanted:
        if resource.casefold() not in known:
            names = listed(sorted(known), _NAMED, ", ") or "none"
            yield name, f'no node of this cluster has the resource "{resource}"; it has: {names}'


def _counted(text: str) -> list[str]:
    """List the requests in `gpu:a100:2,ssd:0` that are not for none, which Slurm skips."""
    requests = (word.strip() for word in text.split(","))
    return [one for one in requests if one and not re.search(r"(^|[:=])0+$", one)]


def _gres_names(text: str) -> list[str]:
    """List the names in `gpu:a100:2(S:0-1),gres/ssd:1`."""
    text = re.sub(r"\([^)]*\)", "", text)
    words = (re.sub(r"^gres[:/]", "", word.strip()) for word in text.split(","))
    names = (word.partition(":")[0].partition("=")[0] for word in words)
    return [name for name in names if name and name.casefold() not in ("none", "(null)", "n/a")]


def _are_all_listed(cluster: ClusterLimits) -> bool:
    """Return whether no node is hidden, as nodes of a cloud are that are powered down."""
    return bool(cluster.partitions) and all(
        one.total_nodes is None or one.total_nodes == len(_nodes_of(one, cluster))
        for one in cluster.partitions
    )


def _nodes_of(partition: SlurmPartition, cluster: ClusterLimits) -> list[SlurmNode]:
    return [node for node in cluster.nodes if partition.name in node.partitions]


def _unknown_qos(properties: Mapping[str, Any], cluster: ClusterLimits) -> Iterator[str]:
    """Find a quality of service that slurmdbd does not have; not every cluster refuses it."""
    name, known = properties.get("qos"), [one.name for one in cluster.qos or ()]
    if name and known and name.casefold() not in map(str.casefold, known):
        names = listed(sorted(known), _NAMED, ", ")
        yield f'"{name}" is not a quality of service of this cluster; it has {names}'


def _candidates(
    properties: Mapping[str, Any], cluster: ClusterLimits
) -> tuple[list[SlurmPartition], list[str]]:
    """Find the partitions in which the job may run, and the names of those that do not exist."""
    by_name = {one.name: one for one in cluster.partitions}
    asked = [name.strip() for name in str(properties.get("partition", "")).split(",")]
    if names := [name for name in asked if name]:
        missing = [name for name in names if name not in by_name]
        return _open([by_name[name] for name in names if name in by_name], by_name), missing
    default = [one for one in cluster.partitions if one.is_default]
    return _open(default or cluster.partitions, by_name), []


def _open(
    partitions: Sequence[SlurmPartition], by_name: Mapping[str, SlurmPartition]
) -> list[SlurmPartition]:
    """Put alternates in the place of closed partitions; each partition is listed once."""
    found = [_alternate(one, by_name) for one in partitions]
    found.sort(key=lambda one: bool(one.stands_in_for), reverse=True)
    return list({one.name: one for one in found}.values())  # one that is meant itself counts


def _alternate(partition: SlurmPartition, by_name: Mapping[str, SlurmPartition]) -> SlurmPartition:
    """Find the partition that gets the jobs of this one; itself if no alternate takes jobs."""
    one, seen = partition, {partition.name}
    while one.closed:
        if not one.alternate or one.alternate in seen:
            return partition
        seen.add(one.alternate)
        one = by_name.get(one.alternate, SlurmPartition(one.alternate))  # unlisted: no known limit
    return one if one is partition else replace(one, stands_in_for=partition.name)


def _missing(names: Sequence[str], place: Place, cluster: ClusterLimits) -> Iterator[str]:
    """Report partitions that do not exist."""
    known = listed(sorted(one.name for one in cluster.partitions), _NAMED, ", ")
    for name in names:
        text = f'"{name}" is not a partition of this cluster; use one of {known}'
        yield f"{place('partition')}: {text}"


def _excesses(
    properties: Mapping[str, Any], partition: SlurmPartition, cluster: ClusterLimits
) -> list[_Excess]:
    """Find everything that a partition does not allow."""
    return [
        *_closed(partition),
        *_time(properties, partition),
        *_node_counts(properties, partition),
        *_cpus(properties, partition),
        *_memory(properties, partition),
        *_largest_node(properties, partition, cluster),
        *_whole_node(properties, partition, cluster),
        *_refused_qos(properties, partition, cluster),
    ]


def _closed(partition: SlurmPartition) -> Iterator[_Excess]:
    if partition.closed:
        yield _Excess("partition", f'"{partition.name}"', f"takes no jobs now ({partition.closed})")


def _time(properties: Mapping[str, Any], partition: SlurmPartition) -> Iterator[_Excess]:
    """Compare the shortest time that the job accepts."""
    name = "time_minimum" if properties.get("time_minimum") else "time_limit"
    minutes, most = properties.get(name), partition.max_minutes
    if minutes and most and minutes > most:
        yield _Excess(name, f"{minutes:,} minutes", _MAX_TIME.format(most), can_be_lifted=True)


def _node_counts(properties: Mapping[str, Any], partition: SlurmPartition) -> Iterator[_Excess]:
    if not (nodes := properties.get("nodes")):
        return
    fewest, most = nodes[0], nodes[-1]
    found = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    if partition.total_nodes and fewest > partition.total_nodes:
        yield _Excess("nodes", found, f"has {partition.total_nodes:,}")
    elif partition.max_nodes and fewest > partition.max_nodes:
        allowed = f"allows at most {partition.max_nodes:,} (MaxNodes)"
        yield _Excess("nodes", found, allowed, can_be_lifted=True)
    if partition.min_nodes and most < partition.min_nodes:
        allowed = f"needs at least {partition.min_nodes:,} (MinNodes)"
        yield _Excess("nodes", found, allowed, can_be_lifted=True)


def _cpus(properties: Mapping[str, Any], partition: SlurmPartition) -> Iterator[_Excess]:
    each, tasks = properties.get("cpus_per_task", 1), properties.get("tasks", 1)
    most, total = partition.max_cpus_per_node, partition.total_cpus
    if most and each > most:
        allowed = f"allows at most {most:,} CPUs on a node (MaxCPUsPerNode)"
        yield _Excess("cpus_per_task", f"{each:,}", allowed)
        return
    if most and partition.total_nodes and total:
        total = min(total, most * partition.total_nodes)
    if total and each * tasks > total:
        name = "tasks" if tasks > 1 else "cpus_per_task"
        found = f"{tasks:,}" if each == 1 else f"{tasks:,} tasks with {each:,} CPUs each"
        yield _Excess(name, found if tasks > 1 else f"{each:,}", f"has {total:,} CPUs for a job")


def _memory(properties: Mapping[str, Any], partition: SlurmPartition) -> Iterator[_Excess]:
    if not (most := partition.max_memory_per_node_mb):
        return
    allowed = _MAX_MEMORY.format(most, "MB")
    per_node, per_cpu = properties.get("memory_per_node"), properties.get("memory_per_cpu")
    if per_node and per_node > most:
        yield _Excess("memory_per_node", f"{per_node:,} MB", allowed)
    if per_cpu and per_cpu * (cpus := cpus_per_node(properties)) > most:
        yield _Excess("memory_per_cpu", _per_cpu(per_cpu, cpus), allowed)


def _per_cpu(megabytes: int, cpus: int) -> str:
    """Write how much memory is asked for per CPU, and for how many CPUs on a node."""
    return f"{megabytes:,} MB" + (f" for each of {cpus:,} CPUs on a node" if cpus > 1 else "")


def _largest(values: Sequence[int | None]) -> int | None:
    """Return the largest of some values; None if one of them is not known."""
    known = [value for value in values if value]
    return max(known) if len(known) == len(values) else None


def _largest_node(
    properties: Mapping[str, Any], partition: SlurmPartition, cluster: ClusterLimits
) -> Iterator[_Excess]:
    """Compare with the largest node, if all nodes of the partition are listed (not in v0.0.36)."""
    nodes = _nodes_of(partition, cluster)
    if not nodes or len(nodes) != partition.total_nodes:
        return
    cpus = _largest([node.cpus for node in nodes])
    memory = _largest([node.memory_mb for node in nodes])
    need = cpus_per_node(properties)
    tasks = properties.get("tasks_per_node") or properties.get("tasks") or 1
    if cpus and tasks <= cpus < need and properties.get("cpus_per_task", 1) <= cpus:
        name = "tasks_per_node" if properties.get("tasks_per_node") else "tasks"
        if need > (properties.get("minimum_cpus_per_node") or 0):
            found = f"{need:,} CPUs on a node"
            yield _Excess(name, found, _NO_LARGER_NODE.format(cpus, "CPUs"))
    for name, most, unit in (
        ("minimum_cpus_per_node", cpus, "CPUs"),
        ("cpus_per_task", cpus, "CPUs"),
        ("tasks_per_node", cpus, "CPUs"),
        ("memory_per_node", memory, "MB"),
        ("memory_per_cpu", memory, "MB"),
    ):
        value = properties.get(name)
        each = cpus_per_node(properties) if name == "memory_per_cpu" else 1
        if value and most and value * each > most:
            found = _per_cpu(value, each) if unit == "MB" else f"{value:,}"
            yield _Excess(name, found, _NO_LARGER_NODE.format(most, unit))


def _whole_node(
    properties: Mapping[str, Any], partition: SlurmPartition, cluster: ClusterLimits
) -> Iterator[_Excess]:
    """Compare a job that itself asks for nodes of its own with all nodes, if they are listed.

    Such a job gets all CPUs of a node, and `memory_per_cpu` for each of them.
    """
    nodes = _nodes_of(partition, cluster)
    is_listed = bool(nodes) and len(nodes) == partition.total_nodes
    if properties.get("exclusive") != "true" or not is_listed:
        return
    sizes = [(node.cpus, node.memory_mb) for node in nodes if node.cpus and node.memory_mb]
    if len(sizes) < len(nodes):
        return
    if (most := partition.max_cpus_per_node) and all(cpus > most for cpus, _ in sizes):
        allowed = (
            f"allows at most {most:,} CPUs on a node (MaxCPUsPerNode), and its nodes have more"
        )
        yield _Excess("exclusive", '"true"', allowed)
    per_cpu, cap = properties.get("memory_per_cpu") or 0, partition.max_memory_per_node_mb
    share = max(min(memory, cap or memory) // cpus for cpus, memory in sizes)
    if per_cpu > share:
        found = f"{per_cpu:,} MB for each CPU of a node (exclusive)"
        allowed = f"has at most {share:,} MB for each; use memory_per_node"
        yield _Excess("memory_per_cpu", found, allowed)


def _refused_qos(
    properties: Mapping[str, Any], partition: SlurmPartition, cluster: ClusterLimits
) -> Iterator[_Excess]:
    """Compare the quality of service; without slurmdbd, Slurm does not look at it."""
    name = properties.get("qos")
    if not name or not cluster.qos:
        return
    allowed, denied = partition.allowed_qos, partition.denied_qos
    if allowed and name.casefold() not in allowed:
        names = listed(sorted(allowed), _NAMED, ", ")
        yield _Excess("qos", f'"{name}"', f"allows {names} (AllowQos)")
    elif not allowed and name.casefold() in denied:
        yield _Excess("qos", f'"{name}"', "does not allow it (DenyQos)")


def _certain(
    properties: Mapping[str, Any],
    partition: SlurmPartition,
    excesses: Sequence[_Excess],
    cluster: ClusterLimits,
) -> list[_Excess]:
    """Leave out what the quality of service of the job may allow."""
    may_lift = _may_lift_limits(properties.get("qos") or "", partition, cluster)
    return [one for one in excesses if not (one.can_be_lifted and may_lift)]


def _may_lift_limits(name: str, partition: SlurmPartition, cluster: ClusterLimits) -> bool:
    """Return whether the quality of service of a job may lift limits of a partition."""
    if cluster.qos is None:
        return True
    if _lifts_limits(name, partition, cluster):
        return True
    known = {one.name.casefold() for one in cluster.qos}
    is_lifted = any(one.lifts_limits for one in cluster.qos)
    return is_lifted and name.casefold() not in known  # the user's default, which may be one


def _lifts_limits(name: str, partition: SlurmPartition, cluster: ClusterLimits) -> bool:
    """Return whether the quality of service of a job is known to lift limits of a partition."""
    lifting = {one.name.casefold() for one in cluster.qos or () if one.lifts_limits}
    return bool({name.casefold(), partition.qos.casefold()} & lifting)


def _sentences(
    found: Sequence[tuple[SlurmPartition, Sequence[_Excess]]], place: Place, fitting: Sequence[str]
) -> list[str]:
    """Write what is wrong, property by property."""
    by_name: dict[str, dict[str, _Excess]] = {}
    for partition, excesses in found:
        label = f'"{partition.name}"'
        if partition.stands_in_for:
            label += f' (in place of "{partition.stands_in_for}")'
        for excess in excesses:
            by_name.setdefault(excess.name, {}).setdefault(label, excess)
    everywhere = {name: all_of for name, all_of in by_name.items() if len(all_of) == len(found)}
    hint = f"; partitions that fit: {listed(fitting, _NAMED, ', ')}" if fitting else ""
    sentences = []
    for name, all_of in (everywhere or by_name).items():
        said = [f"partition {label} {one.allowed}" for label, one in all_of.items()]
        first = next(iter(all_of.values()))
        sentences.append(f"{place(name)}: {first.found}; {listed(said, _NAMED, ', ')}{hint}")
    return sentences


def _account_warnings(
    properties: Mapping[str, Any], candidates: Sequence[SlurmPartition], place: Place
) -> Iterator[str]:
    """Warn of an account that a partition does not list: one above it may be listed."""
    if not (account := str(properties.get("account") or "")):
        return
    refusing = [
        one
        for one in candidates
        if (one.allowed_accounts and account.casefold() not in one.allowed_accounts)
        or (not one.allowed_accounts and account.casefold() in one.denied_accounts)
    ]
    if len(refusing) == len(candidates):
        one = refusing[0]
        names = listed(sorted(one.allowed_accounts), _NAMED, ", ")
        why = f"lists {names} (AllowAccounts)" if names else "excludes it (DenyAccounts)"
        text = f'"{account}"; partition "{one.name}" {why}, so the job may wait for ever'
        yield f"{place('account')}: {text}"
