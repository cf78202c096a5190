"""Jobs that run, and jobs that never run, on a cluster of one node with partitions of every kind.

The node has 8 CPUs and 64,000 MB. `tests/integration/test_slurm_limits.py` shows that real clusters
treat the jobs so; `tests/unit/slurmrest/recorded/limits_*.json` is what those said of themselves.
"""

from typing import Any

GOOD: tuple[dict[str, Any], ...] = (
    {},
    {"time_limit": 100_000},
    {"partition": "short", "time_limit": 60},
    {"partition": "short,part", "time_limit": 61},
    {"partition": "short", "time_limit": 61, "qos": "long"},
    {"partition": "dev", "qos": "normal"},
    {"partition": "memory", "memory_per_node": 10_000},
    {"partition": "percpu", "memory_per_cpu": 3000},
    {"partition": "cpus", "cpus_per_task": 4},
    {"partition": "cpus", "minimum_cpus_per_node": 5},
    {"partition": "hidden", "time_limit": 30},
    {"nodes": [1, 3]},
    {"tasks": 2, "cpus_per_task": 4},
    {"memory_per_node": 64_000},
    {"memory_per_cpu": 8000, "cpus_per_task": 8},
    {"memory_per_cpu": 8000, "minimum_cpus_per_node": 8},
    {"partition": "memory", "memory_per_cpu": 1250, "minimum_cpus_per_node": 8},
    {"partition": "memory", "memory_per_cpu": 2500, "tasks_per_node": 2, "cpus_per_task": 2},
    {"qos": "long", "time_limit": 5, "time_minimum": 5},
    {"gpus": "0"},
    {"gpus_per_node": "0"},
    {"gres": "gpu:0"},
    {"exclusive": "true", "memory_per_cpu": 8000},
    {"exclusive": "true", "memory_per_node": 64_000},
    {"exclusive": "user", "memory_per_cpu": 8001},
    {"partition": "memory", "exclusive": "true", "memory_per_cpu": 1250},
    {"partition": "cpus", "exclusive": "false"},
    {"nodes": [1, 1], "tasks": 8, "memory_per_cpu": 8000},
    {"partition": "memory", "nodes": [1, 1], "tasks": 8, "memory_per_cpu": 1250},
)
"""Jobs that run."""
BAD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("time_limit", {"partition": "short", "time_limit": 61, "qos": "normal"}),
    ("time_limit", {"partition": "short,dev", "time_limit": 61, "qos": "normal"}),
    ("time_limit", {"partition": "hidden", "time_limit": 31, "qos": "normal"}),
    ("nodes", {"nodes": [2, 3], "qos": "normal"}),
    ("nodes", {"partition": "short", "nodes": [2, 2], "qos": "normal"}),
    ("qos", {"partition": "dev", "qos": "slow"}),
    ("memory_per_node", {"partition": "memory", "memory_per_node": 10_001}),
    ("memory_per_cpu", {"partition": "memory", "memory_per_cpu": 6000, "cpus_per_task": 2}),
    ("memory_per_cpu", {"partition": "memory", "memory_per_cpu": 1251, "minimum_cpus_per_node": 8}),
    ("memory_per_cpu", {"partition": "memory", "memory_per_cpu": 5001, "tasks_per_node": 2}),
    (
        "memory_per_cpu",
        {
            "partition": "memory",
            "memory_per_cpu": 2501,
            "tasks_per_node": 2,
            "tasks": 2,
            "cpus_per_task": 2,
        },
    ),
    ("memory_per_node", {"memory_per_node": 64_001}),
    ("memory_per_cpu", {"memory_per_cpu": 8001, "cpus_per_task": 8}),
    ("memory_per_cpu", {"memory_per_cpu": 8001, "tasks_per_node": 8}),
    ("memory_per_cpu", {"memory_per_cpu": 64_001}),
    ("cpus_per_task", {"partition": "cpus", "cpus_per_task": 5}),
    ("cpus_per_task", {"cpus_per_task": 9}),
    ("minimum_cpus_per_node", {"minimum_cpus_per_node": 9}),
    ("tasks_per_node", {"tasks_per_node": 9}),
    ("tasks", {"tasks": 9}),
    ("tasks", {"tasks": 4, "cpus_per_task": 3}),
    ("tasks", {"partition": "cpus", "tasks": 5}),
    ("partition", {"partition": "drained"}),
    ("partition", {"partition": "nowhere"}),
    ("partition", {"partition": "part,nowhere"}),
    ("time_minimum", {"time_limit": 5, "time_minimum": 10}),
    ("gres", {"gres": "gpu:1"}),
    ("memory_per_cpu", {"exclusive": "true", "memory_per_cpu": 8001}),
    ("memory_per_cpu", {"partition": "memory", "exclusive": "true", "memory_per_cpu": 1251}),
    ("exclusive", {"partition": "cpus", "exclusive": "true"}),
    ("memory_per_cpu", {"nodes": [1, 1], "tasks": 8, "memory_per_cpu": 8001}),
    (
        "memory_per_cpu",
        {"partition": "memory", "nodes": [1, 1], "tasks": 8, "memory_per_cpu": 1251},
    ),
    ("tasks_per_node", {"tasks_per_node": 3, "cpus_per_task": 3}),
)
"""Jobs that never run, and the property that is to blame."""
