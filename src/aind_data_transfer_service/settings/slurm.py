"""What the service knows of the cluster."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PlainValidator, SecretStr, model_validator

from aind_data_transfer_service.configs.vocabulary import limited_hints, quoted
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.json_objects import MOST_LISTED, read_object, refuse
from aind_data_transfer_service.settings.types import (
    HostName,
    Names,
    NodeCounts,
    NodePath,
    NodePaths,
)
from aind_data_transfer_service.slurmrest.job_properties import (
    LATER_NAMES,
    read_properties,
    read_property,
)

DEFAULT_PORT = 6820
"""The port that slurmrestd listens on by default."""

_NO_DEFAULT = {
    **dict.fromkeys(("argv", "array", "environment", "name", "open_mode", "script"), ""),
    **dict.fromkeys(("group_id", "standard_in", "user_id"), ""),
    **dict.fromkeys(("standard_error", "standard_out"), " and set HPC_LOGGING_DIRECTORY"),
    **dict.fromkeys(("mail_type", "mail_user"), " and set NOTIFY_EMAILS for mail to the lab"),
    "current_working_directory": " and set HPC_CURRENT_WORKING_DIRECTORY",
}
"""Properties that belong to each job or to the service, and what to do instead."""
_WITH_VARIABLES = (
    *("account", "memory_per_cpu", "minimum_cpus_per_node", "nodes", "partition", "qos"),
    *("tasks", "time_limit"),
)
"""Properties that have a variable of their own, too."""
MOST_SHARDS = 1000
MEMORY = frozenset({"memory_per_cpu", "memory_per_gpu", "memory_per_node"})
"""Slurm takes one of these."""


def _read_defaults(value: Any) -> dict[str, Any]:
    """Read job properties, as a request has them in `hpc_settings`."""
    given, mistakes = read_object(value, '{"time_limit": 360, "qos": "dev"}')
    own = {name: LATER_NAMES.get(name, name) for name in given}
    for written, name in own.items():
        if name in _NO_DEFAULT:
            mistakes.append(f"{written}: cannot have a default; leave it out{_NO_DEFAULT[name]}")
    with limited_hints(MOST_LISTED):
        left = {name: one for name, one in given.items() if own[name] not in _NO_DEFAULT}
        found, wrong = read_properties(left)
    mistakes += wrong
    if len(memory := sorted(MEMORY & found.keys())) > 1:
        mistakes.append(f"{' and '.join(memory)} exclude each other; keep one")
    refuse(mistakes)
    return found


def _property(name: str) -> BeforeValidator:
    """Return a validator that reads a setting as the job property that it is the default of."""
    return BeforeValidator(lambda value: None if value is None else read_property(name, value))


JobDefaults = Annotated[dict[str, Any], PlainValidator(_read_defaults)]


class HpcSettings(EnvironmentSettings):
    """What the web service reads of the cluster: every variable begins with `HPC_`."""

    prefix = "HPC_"
    constants = frozenset({"scheme", "timeout", "submissions_at_once"})

    address: str | None = Field(default=None, alias="HPC_URL")
    """Address of slurmrestd, in place of `host` and `port`."""
    host: HostName | None = None
    """Host of slurmrestd; where it is set, jobs run on the cluster."""
    port: int = Field(default=DEFAULT_PORT, gt=0, lt=65536)
    scheme: Literal["http", "https"] = "http"
    api_endpoint: str | None = None
    """Pins the dialect, as `slurm/v0.0.38`; otherwise found out from the server."""
    ca_file: Path | None = None
    """Certificates to trust, for https."""
    timeout: float = Field(default=30.0, gt=0)
    """Seconds to wait for one answer of the cluster."""
    username: str | None = None
    """In whose name jobs are submitted."""
    password: SecretStr | None = None
    """Read so that set-ups that have it go on working; slurmrestd takes tokens only."""
    token: SecretStr | None = None
    token_file: Path | None = None
    """Holds the token; read again when the token is refused."""
    token_command: str | None = None
    """Prints a token, as `scontrol token username=svc`; run again when the token is refused."""
    partition: str | None = None
    sif_location: NodePath | None = None
    """The container that holds the data transfer job; without one it runs as it is installed."""
    python: str = "python"
    """The Python that has the data transfer job, in the container or on the nodes."""
    bind_paths: NodePaths = []
    """Folders of the nodes that the container is to see besides those that it sees anyway."""
    current_working_directory: NodePath | None = None
    logging_directory: NodePath | None = None
    """Where jobs leave their logs and events. The service reads them there."""
    staging_directory: NodePath | None = None
    """Handed to the jobs as `STAGING_DIRECTORY`, for users' scripts; a transfer stages nothing."""
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    aws_default_region: str | None = None
    aws_param_store_name: str | None = None
    """The older name of `AWS_PARAM_STORE_NAME`."""
    minimum_cpus_per_node: int | None = Field(default=None, gt=0)
    memory_per_cpu: Annotated[int | None, _property("memory_per_cpu")] = Field(default=None, gt=0)
    """Megabytes, or a size such as `8G`."""
    nodes: NodeCounts | None = None
    tasks: int | None = Field(default=None, gt=0)
    time_limit: Annotated[int | None, _property("time_limit")] = None
    """Minutes, or hours, minutes and seconds as `sbatch --time` takes them."""
    qos: str | None = None
    account: str | None = None
    job_defaults: JobDefaults | None = None
    """Properties of every job, unless its request says otherwise, as `hpc_settings` has them. The
    seven above and `partition` are other spellings of some of them."""
    transfer_memory: int = Field(default=1024, ge=0)
    """Megabytes that a transfer asks for if neither its request nor the defaults name any memory;
    with 0 it asks for none. `benchmarks/needs.py` measures what it needs."""
    user_settings: Names | None = None
    """The job properties that users may set themselves."""
    submissions_at_once: int = Field(default=8, gt=0, le=64)
    """How many jobs are on their way to slurmrestd at the same time."""

    shards: int = Field(default=1, gt=0, le=MOST_SHARDS)
    """Into how many jobs, on as many nodes, one asset is cut."""
    shards_exclusive: bool = True
    """Whether each shard gets a node of its own; if not, Slurm packs them onto few nodes."""
    shard_bytes: int | None = Field(default=None, gt=0)
    """How many bytes each further shard is worth; smaller assets have fewer shards."""

    @model_validator(mode="before")
    @classmethod
    def _take_address(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Take host, port and scheme from the address."""
        address = values.get("address")
        if not address:
            return values
        if values.get("host") or values.get("port"):
            raise ValueError("HPC_URL is set, so HPC_HOST and HPC_PORT must not be set")
        try:
            parts = urlsplit(address)
            port = parts.port or DEFAULT_PORT
            extra = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        except ValueError:
            parts, port, extra = urlsplit(""), 0, "x"
        if parts.scheme not in ("http", "https") or not parts.hostname or extra:
            raise ValueError("HPC_URL: write scheme, host and port alone, as https://slurm:6820")
        return values | {"host": parts.hostname, "port": port, "scheme": parts.scheme}

    @model_validator(mode="after")
    def _complete(self) -> "HpcSettings":
        """Name everything that a cluster needs and that is missing, and all contradictions."""
        refuse([*self._differences(), *(self._missing() if self.host else ())])
        return self

    def _missing(self) -> Iterator[str]:
        """Name everything that a cluster needs and that is not there."""
        needed = ("username", "current_working_directory", "logging_directory")
        missing = [f"HPC_{name.upper()}" for name in needed if not getattr(self, name)]
        tokens = [name for name in ("token", "token_file", "token_command") if getattr(self, name)]
        if not tokens:
            missing.append("one of HPC_TOKEN, HPC_TOKEN_FILE and HPC_TOKEN_COMMAND")
        if missing:
            yield f"HPC_HOST or HPC_URL is set, so these are needed too: {', '.join(missing)}"
        if len(tokens) > 1:
            names = " and ".join(f"HPC_{name.upper()}" for name in tokens)
            yield f"{names} are set; set one of them, so that it is clear which counts"

    def _differences(self) -> Iterator[str]:
        """Name the properties that two variables set differently."""
        defaults = self.job_defaults or {}
        given = self._of_variables()
        for name, value in given.items():
            if name in defaults and defaults[name] != value:
                yield (
                    f"HPC_{name.upper()} is {quoted(value)}, and HPC_JOB_DEFAULTS.{name} is "
                    f"{quoted(defaults[name])}; keep one of them"
                )
        for name in sorted(MEMORY & defaults.keys() - {"memory_per_cpu"}):
            if "memory_per_cpu" in given:
                yield (
                    f"HPC_MEMORY_PER_CPU and HPC_JOB_DEFAULTS.{name} exclude each other; keep one "
                    "of them"
                )

    def _of_variables(self) -> dict[str, Any]:
        """Return the properties of jobs that have a variable of their own and are set by it."""
        given = {name: getattr(self, name) for name in _WITH_VARIABLES}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value is not None
        }

    @property
    def default_properties(self) -> dict[str, Any]:
        """The properties of every job, unless its request says otherwise."""
        return self._of_variables() | (self.job_defaults or {})

    @property
    def url(self) -> str:
        """The address of slurmrestd."""
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"
