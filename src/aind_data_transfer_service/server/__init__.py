"""The web service: pages for people, a JSON API for programs.

`uvicorn aind_data_transfer_service.server:app` serves it with the settings of the environment. The
application is made when it is first asked for, so that importing this package changes nothing. Then
secrets leave the environment, and other processes of the user cannot look into this one.
"""

from typing import Any

from aind_data_transfer_service.server.application import create_app
from aind_data_transfer_service.server.process_protection import protect_process
from aind_data_transfer_service.server.startup import settings_or_exit

__all__ = ["app", "create_app"]


def __getattr__(name: str) -> Any:
    """Make `app` on first use, from the settings of the environment."""
    if name == "app":
        globals()["app"] = create_app(settings_or_exit())
        protect_process()
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
