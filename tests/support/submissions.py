"""Submissions of many kinds, and what real servers answer to them.

`python -m tests.support.submissions` records the answers of slurmrestd of Slurm 22.05 (v0.0.36 to
v0.0.38) and 24.11 (v0.0.40 to v0.0.42) in `RECORDED`. The mock answers as v0.0.36 does.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support import slurm, slurm_next, wait_until

RECORDED = Path(__file__).parents[1] / "unit" / "mock_cluster" / "recorded_submissions.json"
SCRIPT = "#!/bin/sh\nexit 0\n"
OLDER, NEWER = (36, 37, 38), (40, 41, 42)
_ABSENT = object()
_USUAL: dict[str, Any] = {
    "name": "variant",
    "current_working_directory": "/tmp",
    "standard_out": "/dev/null",
    "standard_error": "/dev/null",
    "environment": {"PATH": "/bin"},
}
_LATER = {"standard_out": "standard_output", "standard_in": "standard_input"}
_VALUES: Mapping[str, Sequence[Any]] = {
    "account": ("lab", ["lab"]),
    "array": ("1-3", "x", "1-999999"),
    "begin_time": ("now+1hour", "2040-01-01T00:00:00", "soon", "4102444800"),
    "comment": ("", 5),
    "constraints": ("nope",),
    "core_specification": (1,),
    "cpu_binding": ("cores",),
    "cpus_per_task": (0, -1, 4, "4", 9, "x", 1.5),
    "current_working_directory": (_ABSENT, "/nowhere", "tmp"),
    "deadline": ("2040-01-01T00:00:00", "2001-01-01T00:00:00", "soon"),
    "dependency": ("singleton", "nonsense", ""),
    "distribution": ("block", "x"),
    "environment": (_ABSENT, {}, ["PATH=/bin"], {"A": 1}),
    "excluded_nodes": (["nope"],),
    "exclusive": ("user", "exclusive", "true"),
    "gres": ("nope:1", ""),
    "hold": (True, False),
    "licenses": ("nope:1",),
    "mail_type": ("END,FAIL", "nonsense", ["END"], ""),
    "memory_per_cpu": (0, 1000, "1000", 64_001, "x"),
    "memory_per_node": (0, -1, 1000, "1G", 64_001),
    "minimum_cpus_per_node": (0, 8, 9, "x"),
    "name": (_ABSENT, "", 7),
    "nice": (5, -5, "x", 3_000_000_000),
    "nodes": (1, 2, 0, -1, "1", "2-2", "1-2", "2-1", "x", [1, 1], [2, 2], [1]),
    "nonsense": ("x",),
    "open_mode": ("append", "x"),
    "partition": ("part", "nowhere", "part,nowhere", "", "PART"),
    "priority": ("7",),
    "qos": ("nope",),
    "requeue": (True, "x"),
    "required_nodes": (["nope"],),
    "reservation": ("nope",),
    "signal": ("TERM", "B:TERM@60", "NOPE", "15", "99", "TERM@70000", ""),
    "standard_output": ("/dev/null",),
    "tasks": (0, -1, 2, "2", 9, "x", 2_147_483_647, True, 1.5, None),
    "tasks_per_node": (9,),
    "temporary_disk_per_node": (100,),
    "threads_per_core": (9,),
    "time_limit": (0, -1, 5, "5", "soon", "1:00", "1-00:00:00", 1.5, None, True, "INFINITE"),
    "time_minimum": (10,),
    "wckey": ("x",),
}


@dataclass(frozen=True)
class Variant:
    """A submission that differs from a usual one."""

    name: str
    script: Any = SCRIPT
    key: str = ""
    value: Any = None
    job: Any = None
    """What is sent for a job; None for the usual properties and the one that differs."""

    def body(self, version: int) -> dict[str, Any]:
        """Write it as a version of the interface names it."""
        job = self.job if self.job is not None else self._properties(version)
        body = {"script": self.script, "job": job}
        return {name: value for name, value in body.items() if value is not _ABSENT}

    def _properties(self, version: int) -> dict[str, Any]:
        properties = _USUAL | ({self.key: self.value} if self.key else {})
        job = {name: value for name, value in properties.items() if value is not _ABSENT}
        if version > OLDER[0]:
            job = {_LATER.get(name, name): value for name, value in job.items()}
        variables = job.get("environment")
        if version >= NEWER[0] and isinstance(variables, dict):
            job["environment"] = [f"{name}={value}" for name, value in variables.items()]
        return job


def _variants() -> list[Variant]:
    found = [
        Variant("usual"),
        Variant("script=''", script=""),
        Variant("script absent", script=_ABSENT),
        Variant("script=5", script=5),
        Variant("script without #!", script="echo hello"),
        Variant("script with blank before #!", script=" #!/bin/sh\n"),
        Variant("script with CRLF", script="#!/bin/sh\r\nexit 0\r\n"),
        Variant("job absent", job=_ABSENT),
        Variant("job=[]", job=[]),
        Variant("job='x'", job="x"),
    ]
    for key, values in _VALUES.items():
        for value in values:
            shown = " absent" if value is _ABSENT else f"={json.dumps(value)}"
            found.append(Variant(f"{key}{shown}", key=key, value=value))
    return found


VARIANTS = _variants()


def answer_to(variant: Variant, version: int, client: httpx.Client, path: str) -> dict[str, Any]:
    """Submit, and return what the answer amounts to; a server that crashes gives no status."""
    try:
        response = client.post(path, json=variant.body(version))
    except httpx.RemoteProtocolError:
        return {"status": None}
    try:
        body = response.json()
    except ValueError:
        body = {}
    errors = [[_number(error), _text(error)] for error in body.get("errors", ())]
    is_accepted = bool(body.get("job_id"))
    return {"status": response.status_code, "accepted": is_accepted, "errors": errors}


def _number(error: Mapping[str, Any]) -> int | None:
    """Return the number of an error; of one that names a key, it is left over from another."""
    if " key " in _text(error) or "Disabled key" in _text(error):
        return None
    return error.get("error_code") or error.get("error_number") or error.get("errno")


def _text(error: Mapping[str, Any]) -> str:
    """Join what an error says."""
    return ": ".join(filter(None, (error.get("error"), error.get("description"))))


def record(cluster: slurm.SlurmCluster, version: int) -> dict[str, Any]:
    """Submit every variant to a real server; one that crashes is started again."""
    head = {"X-SLURM-USER-NAME": cluster.username, "X-SLURM-USER-TOKEN": cluster.token()}
    path = f"/slurm/v0.0.{version}/job/submit"
    answers = {}
    with httpx.Client(base_url=cluster.endpoint, headers=head, trust_env=False) as client:
        for variant in VARIANTS:
            answers[variant.name] = found = answer_to(variant, version, client, path)
            if found["status"] is None:
                wait_until(lambda: not _is_up(client), 10, "the end of slurmrestd")
                cluster.restart("slurmrestd")
    return answers


def _is_up(client: httpx.Client) -> bool:
    try:
        client.get("/openapi/v3")
    except httpx.TransportError:
        return False
    return True


def main() -> None:
    """Record the answers of both generations."""
    recorded = {}
    for root, versions in ((None, OLDER), (slurm_next.provide(), NEWER)):
        cluster = slurm.start(root=root)
        try:
            recorded |= {f"v0.0.{version}": record(cluster, version) for version in versions}
        finally:
            cluster.stop()
    lines = [
        f" {json.dumps(version)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in answers.items())
        + "\n }"
        for version, answers in recorded.items()
    ]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
