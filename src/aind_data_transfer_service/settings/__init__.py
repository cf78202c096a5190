"""Every environment variable, once.

`ServiceSettings` is what the web service reads, `HpcSettings` its part about the cluster, and
`UploadSettings` what a data transfer job reads; each is read once, at start-up, and passed on. With
no variable set, everything happens on this machine beneath `DATA_DIR`: jobs run as local processes
and assets arrive in a local folder, in the layout of a bucket.
"""

from pydantic import ValidationError

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.settings.hpc import HpcSettings
from aind_data_transfer_service.settings.service import SECRET_VARIABLES, ServiceSettings
from aind_data_transfer_service.settings.upload import UploadSettings

__all__ = [
    "SECRET_VARIABLES",
    "HpcSettings",
    "ServiceSettings",
    "UploadSettings",
    "explain_settings",
]


def explain_settings(error: ValidationError) -> list[str]:
    """List what is wrong with the environment, a line a variable: `CHECK_TIMEOUT: "abc" …`."""
    lines = []
    for details in error.errors(include_url=False):
        variable = ".".join(str(part) for part in details["loc"]).upper()
        if details["type"] == "value_error":
            words = str(details["ctx"]["error"])
        else:
            words = f"{quoted(details['input'])} is refused: {details['msg']}"
        lines.append(f"{variable}: {words}" if variable else words)
    return lines
