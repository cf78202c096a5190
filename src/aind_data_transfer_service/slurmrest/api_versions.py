"""What is spoken with a slurmrestd: paths, names and forms, from v0.0.36 to v0.0.45.

A `Dialect` writes; what is read is told apart by its form (`reading`), so that a server that
answers a little differently from what its version promises is still understood.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aind_data_transfer_service.slurmrest.errors import NotExpressible
from aind_data_transfer_service.slurmrest.models import Submission

OLDEST, NEWEST = 36, 45
"""The dialects that are known: v0.0.36 to v0.0.45."""
FIRST_WITH_STRUCTS = 39
"""From here on numbers are structs, and lists are lists."""
_SWITCHED_OFF = {
    "cpu_binding": 38,
    "cpu_binding_hint": 37,
    "mcs_label": 37,
    "priority": 36,
    "time_minimum": 37,
}
"""Up to which version slurmrestd refuses a property that it knows."""
_MAIL_ALL = ("BEGIN", "END", "FAIL", "REQUEUE")
_PATH = re.compile(r"^(?P<prefix>/slurm/v0\.0\.(?P<version>\d+))/job/submit/?$")


@dataclass(frozen=True)
class Dialect:
    """A version of the interface, at a place on the server."""

    version: int = OLDEST
    """The last part of `v0.0.38`."""
    prefix: str = ""
    """What stands before `/jobs`; empty for a server that has its paths at the root."""

    def __str__(self) -> str:
        """Name it as Slurm does."""
        return f"v0.0.{self.version}"

    @classmethod
    def named(cls, name: str) -> "Dialect":
        """Take `slurm/v0.0.38` (or `v0.0.38`) as HPC_API_ENDPOINT gives it; empty is the root."""
        path = name.strip().strip("/")
        found = re.search(r"(?:^|/)v0\.0\.(\d+)$", path)
        if found and "/" not in path:
            path = f"slurm/{path}"
        return cls(int(found[1]) if found else OLDEST, f"/{path}" if path else "")

    @classmethod
    def among(cls, paths: Iterable[str]) -> "Dialect":
        """Choose from the paths that a server lists: the newest that is known, else the root.

        Where only newer ones than are known are served, the oldest of them is the likeliest to be
        understood.
        """
        offered = {}
        for path in paths:
            if found := _PATH.match(path):
                offered[int(found["version"])] = found["prefix"]
        known = [version for version in offered if OLDEST <= version <= NEWEST]
        if known:
            return cls(max(known), offered[max(known)])
        newer = [version for version in offered if version > NEWEST]
        return cls(min(newer), offered[min(newer)]) if newer else cls()

    def path(self, *parts: object) -> str:
        """Give the path of `jobs`, `job/17`, …"""
        return "/".join([self.prefix, *(str(part) for part in parts)])

    def time(self, moment: datetime) -> str:
        """Write a time as a query takes it."""
        seconds = int(moment.timestamp())
        return str(seconds) if self.version < FIRST_WITH_STRUCTS else f"uts{seconds}"

    @property
    def lists_changes(self) -> bool:
        """Whether a list of jobs can be asked for on the condition that something has changed."""
        return self.version > OLDEST

    @property
    def may_list_states(self) -> bool:
        """Whether servers of this version may list the states of all jobs by themselves."""
        return self.version > FIRST_WITH_STRUCTS

    @property
    def everything(self) -> dict[str, str]:
        """The query by which a list has also what Slurm hides; up to v0.0.38 it always has."""
        return {"flags": "ALL"} if self.version > FIRST_WITH_STRUCTS else {}

    def problems(self, properties: Mapping[str, Any]) -> list[str]:
        """List what this dialect cannot express, one sentence a property, its name first."""
        write = _write_older if self.version < FIRST_WITH_STRUCTS else _write_newer
        problems = []
        for name, value in properties.items():
            if name == "environment":
                continue
            if self.version <= _SWITCHED_OFF.get(name, 0):
                problems.append(f"{name}: slurmrestd does not take it where it speaks {self}")
                continue
            try:
                write({name: value}, self)
            except NotExpressible as error:
                problems.append(str(error))
        return problems

    def submission(self, submission: Submission) -> dict[str, Any]:
        """Write the body of a submission.

        Raises
        ------
        NotExpressible
            A property has no counterpart in this dialect.
        """
        write = _write_older if self.version < FIRST_WITH_STRUCTS else _write_newer
        properties = dict(submission.properties)
        environment = {**properties.pop("environment", {}), **submission.environment}
        job = write(properties, self)
        if self.version < FIRST_WITH_STRUCTS:
            job["environment"] = environment
        else:
            job["environment"] = [f"{name}={value}" for name, value in environment.items()]
        return {"script": submission.script, "job": job}


# --- v0.0.36 to v0.0.38: the values of sbatch's options -------------------------------------------

_RENAMED = {
    "account_gather_freqency": "account_gather_frequency",  # the server spells it right
    "cluster_constraints": "cluster_constraint",
}
_RENAMED_37 = {**_RENAMED, "standard_in": "standard_input", "standard_out": "standard_output"}


def _node_range(value: Any) -> str:
    """Write `2-4`: slurmrestd takes a list of two counts up to v0.0.38, too, but ignores it."""
    fewest, most = (value[0], value[-1]) if isinstance(value, list | tuple) else (value, value)
    return f"{fewest}-{most}"


_OLDER_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "exclusive": lambda word: {"true": "exclusive", "false": None}.get(word, word),
    "get_user_environment": lambda yes: 1 if yes else None,
    "mail_type": lambda words: ",".join([words] if isinstance(words, str) else words),
    "no_kill": lambda yes: "set" if yes else "off",
    "nodes": _node_range,
    "priority": str,
    "wait_all_nodes": int,
}


def _write_older(properties: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    if properties.get("argv"):
        raise NotExpressible(
            f"argv: slurmrestd crashes on it where it speaks {dialect}; write the arguments into "
            "the script"
        )
    if "B" in str(properties.get("signal", "")).upper().rpartition(":")[0]:
        raise NotExpressible(
            f"signal: slurmrestd takes no B: where it speaks {dialect}; leave the B: out, so that "
            "the signal goes to the job's steps"
        )
    names = _RENAMED if dialect.version <= OLDEST else _RENAMED_37
    job = {}
    for name, value in properties.items():
        if name == "requeue" and not value:
            job["no_requeue"] = True  # `requeue` is read as true, whatever its value
            continue
        written = _OLDER_VALUES[name](value) if name in _OLDER_VALUES else value
        if written is not None:
            job[names.get(name, name)] = written
    return job


# --- v0.0.39 and later: structs, lists of flags, trackable resources ----------------------------


def _number(value: Any) -> dict[str, Any]:
    return {"set": True, "infinite": False, "number": int(value)}


def _gpus(field: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {field: f"gres/gpu:{value}"}


def _gres(value: str) -> dict[str, Any]:
    wanted = [f"gres/{re.sub(r'^gres[:/]', '', part.strip())}" for part in value.split(",")]
    return {"tres_per_node": ",".join(wanted)}


def _flag(on: str, off: str = "") -> Callable[[bool], dict[str, Any]]:
    def write(yes: bool) -> dict[str, Any]:
        return {"flags": [on]} if yes else {"flags": [off]} if off else {}

    return write


def _epoch(name: str) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        text = str(value).strip()
        if text.isdigit():
            return int(text)
        try:
            return int(datetime.fromisoformat(text).timestamp())
        except ValueError as error:
            raise NotExpressible(
                f"{name}: this cluster takes a date such as 2030-01-31T08:00:00, not {text!r}"
            ) from error

    return read


def _mail(words: Any) -> dict[str, Any]:
    listed = words.split(",") if isinstance(words, str) else words
    upper = [word.strip().upper() for word in listed]
    kinds = [kind for word in upper for kind in (_MAIL_ALL if word == "ALL" else (word,))]
    return {"mail_type": [kind for kind in dict.fromkeys(kinds) if kind != "NONE"]}


def _signal(value: str) -> dict[str, Any]:
    """Write `[B:]TERM[@60]`."""
    flag, _, rest = value.rpartition(":")
    name, _, seconds = rest.partition("@")
    written: dict[str, Any] = {"kill_warning_signal": name}
    if seconds:
        written["kill_warning_delay"] = _number(seconds)
    if "B" in flag.upper():
        written["kill_warning_flags"] = ["BATCH_JOB"]
    return written


_NEWER: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "account_gather_freqency": lambda value: {"account_gather_frequency": value},
    "begin_time": lambda value: {"begin_time": _number(_epoch("begin_time")(value))},
    "cluster_constraints": lambda value: {"cluster_constraint": value},
    "cpus_per_gpu": _gpus("cpus_per_tres"),
    "deadline": lambda value: {"deadline": _epoch("deadline")(value)},
    "exclusive": lambda word: (
        {} if word == "false" else {"shared": ["none" if word == "true" else word]}
    ),
    "gpu_binding": lambda value: {"tres_bind": f"gres/gpu:{value}"},
    "gpu_frequency": lambda value: {"tres_freq": f"gpu:{value}"},
    "gpus": _gpus("tres_per_job"),
    "gpus_per_node": _gpus("tres_per_node"),
    "gpus_per_socket": _gpus("tres_per_socket"),
    "gpus_per_task": _gpus("tres_per_task"),
    "gres": _gres,
    "gres_flags": lambda word: {
        "flags": ["GRES_BINDING_" + ("ENFORCED" if word.startswith("enforce") else "DISABLED")]
    },
    "kill_on_invalid_dependency": _flag("KILL_INVALID_DEPENDENCY", "NO_KILL_INVALID_DEPENDENCY"),
    "mail_type": _mail,
    "memory_per_cpu": lambda value: {"memory_per_cpu": _number(value)},
    "memory_per_gpu": _gpus("memory_per_tres"),
    "memory_per_node": lambda value: {"memory_per_node": _number(value)},
    "minimum_nodes": _flag("PREFER_MINIMUM_NODE_COUNT"),
    "no_kill": lambda yes: {"kill_on_node_fail": not yes},
    "nodes": lambda value: {"nodes": _node_range(value)},
    "open_mode": lambda word: {"open_mode": [word.upper()]},
    "priority": lambda value: {"priority": _number(value)},
    "signal": _signal,
    "spread_job": _flag("SPREAD_JOB"),
    "standard_in": lambda value: {"standard_input": value},
    "standard_out": lambda value: {"standard_output": value},
    "time_limit": lambda value: {"time_limit": _number(value)},
    "time_minimum": lambda value: {"time_minimum": _number(value)},
}
_GONE = frozenset({"cpu_binding_hint", "get_user_environment"})
_GONE_41 = frozenset({"cores_per_socket"})


def _write_newer(properties: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    job: dict[str, Any] = {}
    for name, value in properties.items():
        if name in _GONE or (name in _GONE_41 and dialect.version > 40):
            raise NotExpressible(f"{name}: this cluster's interface ({dialect}) has no such thing")
        for field, written in (_NEWER[name](value) if name in _NEWER else {name: value}).items():
            if isinstance(written, list) and field in job:
                written = [*job[field], *written]
            elif field.startswith("tres_") and field in job:
                written = f"{job[field]},{written}"
            job[field] = written
    return job
