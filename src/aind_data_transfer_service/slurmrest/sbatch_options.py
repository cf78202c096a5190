"""What people write in place of job properties: options of `sbatch` and of other schedulers."""

from collections.abc import Mapping

MEANT: Mapping[str, str] = {
    "acctg_freq": "account_gather_freqency",
    "batch": "batch_features",
    "bb": "burst_buffer",
    "begin": "begin_time",
    "chdir": "current_working_directory",
    "constraint": "constraints",
    "core_spec": "core_specification",
    "cores": "cpus_per_task",
    "cpu_bind": "cpu_binding",
    "cpu_freq": "cpu_frequency",
    "cpus": "cpus_per_task",
    "error": "standard_error",
    "export": "environment",
    "get_user_env": "get_user_environment",
    "gpu_bind": "gpu_binding",
    "gpu_freq": "gpu_frequency",
    "h_rt": "time_limit",
    "h_vmem": "memory_per_cpu",
    "hint": "cpu_binding_hint",
    "input": "standard_in",
    "job_name": "name",
    "kill_on_invalid_dep": "kill_on_invalid_dependency",
    "maximum_nodes": "nodes",
    "mem": "memory_per_node",
    "mem_bind": "memory_binding",
    "mem_per_cpu": "memory_per_cpu",
    "mem_per_gpu": "memory_per_gpu",
    "mem_per_node": "memory_per_node",
    "memory": "memory_per_node",
    "mincpus": "minimum_cpus_per_node",
    "mpiprocs": "tasks_per_node",
    "ncpus": "cpus_per_task",
    "ngpus": "gpus",
    "np": "tasks",
    "nprocs": "tasks",
    "ntasks": "tasks",
    "ntasks_per_core": "tasks_per_core",
    "ntasks_per_node": "tasks_per_node",
    "ntasks_per_socket": "tasks_per_socket",
    "output": "standard_out",
    "pmem": "memory_per_cpu",
    "ppn": "tasks_per_node",
    "procs": "tasks",
    "queue": "partition",
    "thread_spec": "thread_specification",
    "time": "time_limit",
    "time_min": "time_minimum",
    "use_min_nodes": "minimum_nodes",
    "vmem": "memory_per_node",
    "walltime": "time_limit",
    "workdir": "current_working_directory",
}
"""Options of `sbatch` and of other schedulers, and the property that is meant."""

_SHORT: Mapping[str, str] = {
    **{"A": "account", "a": "array", "b": "begin", "B": "extra_node_info", "c": "cpus_per_task"},
    **{"C": "constraint", "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile"},
    **{"G": "gpus", "H": "hold", "I": "immediate", "i": "input", "J": "job_name", "k": "no_kill"},
    **{"L": "licenses", "M": "clusters", "m": "distribution", "N": "nodes", "n": "ntasks"},
    **{"O": "overcommit", "o": "output", "p": "partition", "Q": "quiet", "q": "qos"},
    **{"S": "core_spec", "s": "oversubscribe", "t": "time", "v": "verbose", "W": "wait"},
    **{"w": "nodelist", "x": "exclude"},
}
"""The options of `sbatch` with one letter."""

_NODES = "nodes cannot be chosen by name; use constraints or partition"
_OWNER = "jobs run as the user of the service"
_OUTPUT = "it only concerns the command sbatch"
_NONE = "no property does the same"
WITHOUT_PROPERTY: Mapping[str, str] = {
    **dict.fromkeys(
        ("exclude", "excluded_nodes", "nodefile", "nodelist", "required_nodes"), _NODES
    ),
    **dict.fromkeys(("gid", "group", "group_id", "uid", "user", "user_id"), _OWNER),
    **dict.fromkeys(("help", "parsable", "quiet", "test_only", "usage", "verbose"), _OUTPUT),
    **dict.fromkeys(("version", "wait"), _OUTPUT),
    **dict.fromkeys(
        ("bbf", "container", "container_id", "contiguous", "export_file", "extra"), _NONE
    ),
    **dict.fromkeys(("ignore_pbs", "immediate", "network", "overcommit", "oversubscribe"), _NONE),
    **dict.fromkeys(
        ("power", "prefer", "profile", "propagate", "reboot", "segment", "share"), _NONE
    ),
    **dict.fromkeys(
        ("required_switches", "resv_ports", "shared", "stepmgr", "switches", "tmp"), _NONE
    ),
    **dict.fromkeys(("temporary_disk_per_node", "tres_bind", "tres_per_task"), _NONE),
    **dict.fromkeys(("cluster", "clusters"), "jobs run on the cluster of the service"),
    "extra_node_info": "use sockets_per_node, cores_per_socket and threads_per_core",
    "mem_per_task": "use memory_per_cpu or memory_per_node",
    "ntasks_per_gpu": "use tasks and gpus_per_task",
    "no_requeue": "write false for requeue",
    "script": "send it as the script of the job",
    "wrap": "send it as the script of the job",
}
"""Options of `sbatch`, and properties of later releases, that have no property, and what to do."""


def option_name(name: str) -> str:
    """Return an option of `sbatch` in one spelling, its long one.

    Parameters
    ----------
    name : str
        The option, with or without hyphens before it.

    Examples
    --------
    >>> [option_name(name) for name in ("--Job-Name", "-J", "job_name")]
    ['job_name', 'job_name', 'job_name']
    """
    option = name.strip().lstrip("-").replace("-", "_")
    return _SHORT.get(option) or option.lower()
