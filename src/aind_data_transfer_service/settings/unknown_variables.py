"""Variables that look like settings and are none: misspelt ones, and those of earlier releases."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from aind_data_transfer_service.configs.vocabulary import nearest
from aind_data_transfer_service.settings.base import (
    SETTINGS_FILE,
    EnvironmentSettings,
    is_link,
)
from aind_data_transfer_service.settings.metadata import KINDS
from aind_data_transfer_service.settings.plugin_settings import prefixes as plugin_prefixes
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.upload import UploadSettings

OWN_PREFIXES = (
    *("HPC_", "METADATA_", "CODEOCEAN_"),
    *("REGISTRATION_", "SMTP_", "NOTIFY_", "UPLOAD_", "AWS_PARAM_", "AWS_CHECKSUM_"),
    *("S3_ACCOUNTS_", "SPREADSHEET_", "SOURCE_ROOTS_", "LOCAL_EXECUTOR_", "DATABASE_URL_"),
    "LAB_TIMEZONE_",
)
"""A variable that begins like this is a setting of ours, or a mistake."""

REMOVED: Mapping[str, str] = {
    "CALLBACK_URL": "set INTERNAL_URL",
    "CHECK_TIMEOUT": "the checks of a request have 5 seconds",
    "CODEOCEAN_FOLLOW": "computations are always followed",
    "CODEOCEAN_TIMEOUT": "a job has 120 seconds for Code Ocean",
    "HELP_URL": "the page links to /help",
    "HPC_SCHEME": "set HPC_URL, as https://slurm.example.org:6820",
    "HPC_SUBMISSIONS_AT_ONCE": "8 jobs are sent at a time",
    "HPC_TIMEOUT": "an answer of slurmrestd has 30 seconds",
    **{
        f"METADATA_{kind.upper()}": f'set METADATA_SOURCES.{kind}, as {{"{kind}": ["folder"]}}'
        for kind in KINDS
    },
    **{
        f"METADATA_POLICY_{kind.upper()}": f"set if_missing in METADATA_SOURCES.{kind}, as "
        f'{{"{kind}": {{"if_missing": "require"}}}}'
        for kind in KINDS
        if kind not in ("subject", "project_names")
    },
    "METADATA_TIME_LIMIT": "the questions of one job have 60 seconds",
    **dict.fromkeys(
        (
            *("OPEN_DATA_AWS_ACCESS_KEY_ID", "OPEN_DATA_AWS_SECRET_ACCESS_KEY"),
            *("OPEN_DATA_AWS_SESSION_TOKEN", "OPEN_DATA_AWS_DEFAULT_REGION", "OPEN_DATA_BUCKETS"),
        ),
        "set S3_ACCOUNTS: accounts by name, each with its buckets and keys",
    ),
    "PROJECT_NAMES_URL": "the page links to project_names of METADATA_SERVICE_URL",
    "REGISTRATION_TIMEOUT": "a registration has 60 seconds",
    "SHAREPOINT_CA_FILE": "set CA_FILE",
    "SHAREPOINT_TENANT": "set ENTRA_TENANT",
    "SLIMS_CA_FILE": "set CA_FILE",
    "SOURCE_ROOTS_STRICT": "SOURCE_ROOTS is always enforced",
    "SPREADSHEET_MAX_BYTES": "the limit is fixed",
    "SPREADSHEET_MAX_ROWS": "the limit is fixed",
    "TARS_CA_FILE": "set CA_FILE",
    "TARS_TENANT": "set ENTRA_TENANT",
}
"""Settings of earlier releases, and what takes their place."""

_OTHERS = ("AWS_", "SLURM", "SBATCH")
"""Variables of these are known to their owners alone; none is taken for a misspelt one of ours."""
_KUBERNETES = re.compile(
    r"_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
"""What Kubernetes and Docker set for each service: `SMTP_SERVICE_HOST` for one named `smtp`."""
_MODULE = re.compile(r"(HPC_\w+_)(BIN|LIB|INC|DOC|MAN|DIR|ROOT|HOME|VERSION)$")
"""What the module systems of some clusters set for each loaded module: `HPC_CUDA_LIB`."""
_SIMILAR = 0.85
"""The least similarity of a name without such a prefix: two letters of ten swapped or wrong."""


@dataclass
class Findings:
    """What is wrong with the names of variables."""

    errors: list[str] = field(default_factory=list)
    """Settings that would have no effect."""
    warnings: list[str] = field(default_factory=list)
    """Variables that may belong to another program."""


def own_prefixes() -> tuple[str, ...]:
    """Return how settings begin that are no other program's, those of plug-ins included."""
    return (*OWN_PREFIXES, *plugin_prefixes())


def known_variables() -> frozenset[str]:
    """Return the names of all settings of the service and of its jobs."""
    return _variables_of(ServiceSettings) | _variables_of(UploadSettings) | {SETTINGS_FILE}


def secret_variables() -> frozenset[str]:
    """Return the names of the settings that are secrets."""
    return _secrets_of(ServiceSettings) | _secrets_of(UploadSettings)


def check_names(environment: Mapping[str, str]) -> Findings:
    """Find the variables that are meant to be settings and are not.

    Parameters
    ----------
    environment : Mapping[str, str]
        All variables. An empty one counts as not set.
    """
    known, prefixes = known_variables(), own_prefixes()
    found = Findings()
    for variable, value in sorted(environment.items()):
        name = variable.upper()
        if not value or name in known:
            continue
        if name in REMOVED:
            found.errors.append(f"{variable}: no longer a setting; remove it ({REMOVED[name]})")
        elif name.startswith(prefixes):
            if not _is_of_another(name, value, known):
                found.errors.append(f"{variable}: unknown setting; {suggestion(name, known)}")
        elif not name.startswith(_OTHERS) and (near := _similar(name, known)):
            found.warnings.append(f"{variable}: not a setting of this service; is it {near}?")
    return found


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant, or where all names are listed.

    Parameters
    ----------
    name : str
        What was written.
    known : Iterable[str]
        The names that exist.
    """
    near = nearest(name, known)
    if near:
        return f"did you mean {near}?"
    return "remove it (the administrator's guide lists all settings)"


def _variables_of(model: type[EnvironmentSettings]) -> frozenset[str]:
    """Return the variables of settings and of their groups."""
    of_groups = map(_variables_of, model.groups().values())
    return frozenset(model.variables().values()).union(*of_groups)


def _secrets_of(model: type[EnvironmentSettings]) -> frozenset[str]:
    """Return the variables of settings and of their groups that hold secrets."""
    fields, variables = model.model_fields, model.variables()
    own = [v for name, v in variables.items() if "Secret" in repr(fields[name].annotation)]
    return frozenset(own).union(*map(_secrets_of, model.groups().values()))


def _is_of_another(name: str, value: str, known: frozenset[str]) -> bool:
    """Return whether systemd, a container platform or a module system sets such a variable."""
    if name == "NOTIFY_SOCKET" or _KUBERNETES.search(name) or is_link(name, value):
        return True
    module = _MODULE.match(name)
    return module is not None and not any(one.startswith(module[1]) for one in known)


def _similar(name: str, known: Iterable[str]) -> str | None:
    """Return the setting that a variable differs from by a slip of the hand only."""
    near = [one for one in known if abs(len(one) - len(name)) <= 2]
    return next(iter(difflib.get_close_matches(name, near, n=1, cutoff=_SIMILAR)), None)
