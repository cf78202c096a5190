"""Every environment variable, once.

`ServiceSettings` is what the web service reads, with a part about the cluster (`HpcSettings`) and
one about telling people (`NotificationSettings`); `UploadSettings` is what a data transfer job
reads, and `LabtracksSettings`, `SharePointSettings`, `TarsSettings` and `SlimsSettings` what it has
to know of the systems that metadata come from. Each is read once, at start-up, and passed on. With
no variable set, everything happens on this machine beneath `DATA_DIR`: jobs run as local processes
and assets arrive in a local folder, in the layout of a bucket.
"""

from pydantic import ValidationError

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.settings.hpc import HpcSettings
from aind_data_transfer_service.settings.notifications import NotificationSettings
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
    "HpcSettings",
    "LabtracksSettings",
    "NotificationSettings",
    "ServiceSettings",
    "SharePointSettings",
    "SlimsSettings",
    "TarsSettings",
    "UploadSettings",
    "explain_settings",
]

_PREFIXES = {
    model.__name__: model.model_config["env_prefix"]
    for model in (
        HpcSettings,
        LabtracksSettings,
        SharePointSettings,
        SlimsSettings,
        TarsSettings,
    )
}
"""How the variables begin that a class of settings reads, where they begin alike."""


def explain_settings(error: ValidationError) -> list[str]:
    """List what is wrong with the environment, a line a variable: `CHECK_TIMEOUT: "abc" …`."""
    lines = []
    prefix = _PREFIXES.get(error.title, "")
    for details in error.errors(include_url=False):
        name = ".".join(str(part) for part in details["loc"])
        variable = f"{prefix}{name}".upper() if name else ""
        if details["type"] == "value_error":
            words = str(details["ctx"]["error"])
        else:
            words = f"{quoted(details['input'])} is refused: {details['msg']}"
        lines.append(f"{variable}: {words}" if variable else words)
    return lines
