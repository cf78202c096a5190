"""Every environment variable, once.

`ServiceSettings` is what the web service reads, with parts about the cluster (`HpcSettings`), about
a second account for S3 (`OpenDataSettings`) and about telling people (`NotificationSettings`);
`UploadSettings` is what a data transfer job reads, and `LabtracksSettings`, `SharePointSettings`,
`TarsSettings` and `SlimsSettings` what it has to know of the systems that metadata come from;
`MetadataSettings` says which of them is asked for what, and `AfterwardsSettings` who hears of a
verified asset. Each is read once, at start-up, and passed on. With no variable set, everything
happens on this machine beneath `DATA_DIR`: jobs run as local processes and assets arrive in a local
folder, in the layout of a bucket.
"""

from collections.abc import Collection, Mapping

from pydantic import ValidationError

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.settings.afterwards import AfterwardsSettings
from aind_data_transfer_service.settings.hpc import HpcSettings
from aind_data_transfer_service.settings.metadata import LabSettings, MetadataSettings, Policy
from aind_data_transfer_service.settings.notifications import NotificationSettings
from aind_data_transfer_service.settings.open_data import OpenDataSettings
from aind_data_transfer_service.settings.service import SECRET_VARIABLES, ServiceSettings
from aind_data_transfer_service.settings.sources import (
    LabtracksSettings,
    SharePointSettings,
    SlimsSettings,
    TarsSettings,
)
from aind_data_transfer_service.settings.upload import UploadSettings

__all__ = [
    "SECRET_VARIABLES",
    "AfterwardsSettings",
    "HpcSettings",
    "LabSettings",
    "LabtracksSettings",
    "MetadataSettings",
    "NotificationSettings",
    "OpenDataSettings",
    "Policy",
    "ServiceSettings",
    "SharePointSettings",
    "SlimsSettings",
    "TarsSettings",
    "UploadSettings",
    "explain_settings",
    "is_administrators",
    "shared_variables",
    "without_sources",
]

_PREFIXES = {
    model.__name__: model.model_config["env_prefix"]
    for model in (
        HpcSettings,
        LabtracksSettings,
        MetadataSettings,
        OpenDataSettings,
        SharePointSettings,
        SlimsSettings,
        TarsSettings,
    )
}
"""How the variables begin that a class of settings reads, where they begin alike."""


def explain_settings(error: ValidationError, hidden: Collection[str] = ()) -> list[str]:
    """List what is wrong with the environment, a line a variable: `CHECK_TIMEOUT: "abc" …`.

    Of the variables in `hidden`, values are not shown: they come from where secrets lie.
    """
    lines = []
    prefix = _PREFIXES.get(error.title, "")
    for details in error.errors(include_url=False):
        name = ".".join(str(part) for part in details["loc"])
        variable = f"{prefix}{name}".upper() if name else ""
        if variable in hidden:
            words = "what it is set to cannot be used"
        elif details["type"] == "value_error":
            words = str(details["ctx"]["error"])
        else:
            words = f"{quoted(details['input'])} is refused: {details['msg']}"
        lines.append(f"{variable}: {words}" if variable else words)
    return lines


def is_administrators(variable: str) -> bool:
    """Tell whether a variable of a job's environment is for the site to set, and for no user."""
    name = variable.upper()
    names = shared_variables() | _OF_ONE_JOB | _OF_THE_NODE
    return name in names or name.startswith((*_SITE, *_CODE, *_DRIVERS))


def shared_variables() -> frozenset[str]:
    """Name the variables of a job that are the same for all jobs of a lab.

    They may come from a store of parameters. What tells one job from another may not, nor may
    where its files lie on the machine on which it runs.
    """
    fields = UploadSettings.model_fields.items()
    names = {(field.alias or name).upper() for name, field in fields} - _OF_ONE_JOB - {"METADATA"}
    return frozenset(names) | _of_systems()


def without_sources(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what is known of other systems, for a user's own script.

    Those that metadata come from, and those that hear of verified assets.
    """
    names = _of_systems()
    return {name: value for name, value in environment.items() if name.upper() not in names}


def _of_systems() -> frozenset[str]:
    return frozenset(
        f"{model.model_config['env_prefix']}{name}".upper()
        for model in _SYSTEMS
        for name in model.model_fields
    )


_SITE = ("AWS_", "SINGULARITY", "APPTAINER", "SLURM", "SBATCH")
_CODE = ("BASH", "LD_", "PYTHON")
"""What has the job's own shell, loader and Python run something that came with the variable."""
_DRIVERS = ("TDS", "FREETDS")
"""What FreeTDS, beneath LabTracks, sets above all that it is told: server, port, a file of all that
is said (https://www.freetds.org/userguide/envvar.html)."""
_OF_THE_NODE = frozenset(
    {
        *("PATH", "HOME", "ENV", "IFS", "PS4", "SHELLOPTS", "GCONV_PATH", "GLIBC_TUNABLES"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSLKEYLOGFILE"),
        *("HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS"),
        *("SYBASE", "DSQUERY", "BOTO_CONFIG", "NETRC"),
    }
)
"""What decides which programs run, which settings they read at home, over whose machine their
requests go, whose certificates they trust, and which machine a name means."""
_SYSTEMS = (
    AfterwardsSettings,
    LabtracksSettings,
    MetadataSettings,
    SharePointSettings,
    SlimsSettings,
    TarsSettings,
)
_OF_ONE_JOB = frozenset(
    {
        "JOB_ID",
        "DATA_DIR",
        "AWS_PARAM_STORE_NAME",
        "UPLOAD_CALLBACK_TOKEN",
        "UPLOAD_CALLBACK_URL",
        "UPLOAD_EVENTS_FILE",
        "UPLOAD_JOB_JSON_ARGS",
        "UPLOAD_SHARD",
        "UPLOAD_SHARDS_DONE",
        "UPLOAD_SHARD_BYTES",
        "UPLOAD_STATE_DIR",
    }
)
