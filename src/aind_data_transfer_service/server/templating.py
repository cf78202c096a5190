"""How pages are made: the templates, what each of them knows, and where their assets lie."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse
from starlette.types import Scope

import aind_data_transfer_service
from aind_data_transfer_service import formatting
from aind_data_transfer_service.jobs.states import ACTIVE, JobState
from aind_data_transfer_service.server import template_filters

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
TEMPLATE_ROUTE = "/api/job_upload_template"

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.globals.update(
    version=aind_data_transfer_service.__version__,
    states=[state.value for state in JobState],
    active_states=sorted(state.value for state in ACTIVE),
    is_ended=template_filters.is_ended,
    progress_words=template_filters.progress_words,
    share=template_filters.share,
    timeline=template_filters.timeline,
    documents=template_filters.documents,
    progress_heading=template_filters.progress_heading,
    place=template_filters.place,
    may_retry=template_filters.may_retry,
)
_ENVIRONMENT.filters.update(
    size=formatting.size,
    duration=formatting.duration,
    number=formatting.number,
    briefly=template_filters.briefly,
    utc=template_filters.utc,
    state_name=template_filters.state_name,
    without_label=template_filters.without_label,
)


class VersionedFiles(StaticFiles):
    """Static files whose address names their content, so that browsers may keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer with a file, and say how long it stays good."""
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


def install(app: FastAPI) -> None:
    """Serve the assets of the pages of `app`, under an address made from their content."""
    app.state.static_path = f"/static/{_fingerprint(STATIC)}"
    app.mount(app.state.static_path, VersionedFiles(directory=STATIC), name="static")


def render(
    request: Request, template: str, context: Mapping[str, Any], status_code: int = 200
) -> HTMLResponse:
    """Make a page.

    Parameters
    ----------
    request : Request
        What is being answered.
    template : str
        Name of the page's file under `templates/`.
    context : Mapping[str, Any]
        What this page shows, beside what all pages know.
    status_code : int
        Status of the answer.
    """
    state = request.app.state
    root = root_path(request)
    common = {
        "root": root,
        "path": route_path(request),
        "static": root + state.static_path,
        "template_link": root + TEMPLATE_ROUTE,
        "project_names_link": state.settings.project_names_link,
        "help_link": root + "/help",
        "lab_timezone": state.settings.lab_timezone,
    }
    text = _ENVIRONMENT.get_template(template).render(common | dict(context))
    return HTMLResponse(text.encode("utf-8", "replace"), status_code=status_code)


def route_path(request: Request) -> str:
    """Return the path of a request below the folder that a proxy serves us under."""
    path: str = request.scope["path"]
    return path.removeprefix(root_path(request))


def root_path(request: Request) -> str:
    """Return the folder that a proxy serves us under, also for what is mounted below a path."""
    scope = request.scope
    found: str = scope.get("app_root_path", scope.get("root_path", ""))
    return found


def _fingerprint(folder: Path) -> str:
    """Compose a short name from the content of a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]
