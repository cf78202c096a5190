"""Which variables of the environment are a user's, the site's, one job's, or another system's."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from aind_data_transfer_service.redaction import Redactor
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.metadata import MetadataSettings
from aind_data_transfer_service.settings.plugin_settings import job_settings
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.s3 import S3Settings
from aind_data_transfer_service.settings.upload import UploadSettings


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
    of_jobs = frozenset((UploadSettings.variables() | S3Settings.variables()).values())
    return of_jobs - _OF_ONE_JOB | _of_systems()


def of_one_job() -> frozenset[str]:
    """Name the variables that tell one job from another, which only a job's starter sets."""
    return _OF_ONE_JOB


def without_sources(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what is known of other systems, for a user's own script.

    Those that metadata come from, and those that hear of verified assets.
    """
    names = _of_systems()
    return {
        name: value
        for name, value in environment.items()
        if name.upper() not in names
        and not (name.upper() == "METADATA_SERVICE_URL" and "@" in urlsplit(value).netloc)
    }


def inherited_variables(environment: Mapping[str, str], private: Redactor) -> dict[str, str]:
    """Return what a job on this machine gets of the service's own environment.

    These are the settings of jobs, the variables of AWS, and what programs need to run: the search
    path, the locale, proxies, certificates. Nothing else is passed on.

    Parameters
    ----------
    environment : Mapping of str to str
        The service's environment.
    private : Redactor
        Knows the secrets that no job may have. A variable that is one of them is left out, as is
        one that contains one of them and is passed on for the beginning of its name alone.
    """
    names = shared_variables() | _OF_THE_NODE | _OF_THE_USER
    found = {}
    for variable, value in environment.items():
        name = variable.upper()
        if name in names:
            is_private = private.is_secret(value)
        else:
            is_private = not name.startswith(_INHERITED) or private.holds(value)
        if not is_private:
            found[variable] = value
    return found


def _of_systems() -> frozenset[str]:
    systems: list[type[EnvironmentSettings]] = [PostUploadSettings, MetadataSettings]
    systems += job_settings()
    return frozenset(name for model in systems for name in model.variables().values())


SECRETS_OF_AWS = frozenset({"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
"""The secrets of jobs on this machine, in variables of the AWS tools."""
_SITE = ("AWS_", "SINGULARITY", "APPTAINER", "SLURM", "SBATCH")
_CODE = ("BASH", "LD_", "PYTHON")
"""What has the job's own shell, loader and Python run something that came with the variable."""
_DRIVERS = ("TDS", "FREETDS")
"""What FreeTDS, beneath LabTracks, sets above all that it is told: server, port, a file of all that
is said (https://www.freetds.org/userguide/envvar.html)."""
_INHERITED = ("AWS_", "LC_", "LD_", "PYTHON", *_DRIVERS)
_OF_THE_USER = frozenset(
    {
        *("USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TZDIR"),
        *("TMPDIR", "TMP", "TEMP", "VIRTUAL_ENV", "KRB5CCNAME", "KRB5_CONFIG"),
    }
)
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
_OF_ONE_JOB = frozenset(
    {
        "JOB_ID",
        "DATA_DIR",
        "AWS_PARAM_STORE_NAME",
        "UPLOAD_ASSET",
        "UPLOAD_CALLBACK_TOKEN",
        "UPLOAD_CALLBACK_URL",
        "UPLOAD_CANCEL_FILE",
        "UPLOAD_CANCEL_URL",
        "UPLOAD_EVENTS_FILE",
        "UPLOAD_JOB_JSON_ARGS",
        "UPLOAD_PRIVATE_PATHS",
        "UPLOAD_RECORDED",
        "UPLOAD_SHARD",
        "UPLOAD_SHARDS_DONE",
        "UPLOAD_SHARD_BYTES",
        "UPLOAD_STATE_DIR",
    }
)
