"""How pages are made: the templates, what each of them knows, and where their assets lie."""

import hashlib
import json
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
from aind_data_transfer_service import formatting, plain_text
from aind_data_transfer_service.jobs.states import ACTIVE, JobState
from aind_data_transfer_service.server import template_filters

FOLDER = Path(__file__).parent
STATIC = FOLDER / "static"
TEMPLATE_ROUTE = "/api/job_upload_template"

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    auto_reload=False,
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
HTMX_CONFIG = json.dumps(
    {
        "extensions": "sse, newest-row",
        "implicitInheritance": False,
        "includeIndicatorCSS": False,  # the policy of our pages allows no style but our files
    }
)
"""How htmx works on our pages, whose security policy lets it run no code from attributes."""

_ENVIRONMENT.globals.update(
    htmx_config=HTMX_CONFIG,
    version=aind_data_transfer_service.__version__,
    states=[state.value for state in JobState],
    active_states=sorted(state.value for state in ACTIVE),
    is_ended=template_filters.is_ended,
    progress_text=template_filters.progress_text,
    share=template_filters.share,
    timeline=template_filters.timeline,
    documents=template_filters.documents,
    progress_heading=template_filters.progress_heading,
    place=template_filters.place,
    can_retry=template_filters.can_retry,
    log_note=template_filters.log_note,
    seconds_between=template_filters.seconds_between,
)
_ENVIRONMENT.filters.update(
    more=plain_text.more,
    plural=template_filters.plural,
    duration=formatting.duration,
    number=formatting.number,
    briefly=template_filters.briefly,
    utc=template_filters.utc,
    state_name=template_filters.state_name,
    verbatim=template_filters.verbatim,
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
    text = render_text(template, _common(request) | dict(context))
    return HTMLResponse(text, status_code=status_code)


def render_text(template: str, context: Mapping[str, Any]) -> str:
    """Render a template that is no page; characters that UTF-8 cannot carry are replaced."""
    text = _ENVIRONMENT.get_template(template).render(context)
    return text.encode("utf-8", "replace").decode("utf-8")


def render_fragment(
    request: Request, template: str, context: Mapping[str, Any], status_code: int = 200
) -> HTMLResponse:
    """Render a part of a page that is shown also if its status is one of an error."""
    response = render(request, template, context, status_code)
    response.headers["HX-Reswap"] = "innerHTML"
    return response


def is_partial(request: Request) -> bool:
    """Return whether a script of a page asks for a part of a page instead of a page."""
    return request.headers.get("HX-Request-Type") == "partial"


def _common(request: Request) -> dict[str, Any]:
    """Return what all templates know."""
    state = request.app.state
    root = root_path(request)
    return {
        "root": root,
        "path": route_path(request),
        "static": root + state.static_path,
        "template_link": root + TEMPLATE_ROUTE,
        "project_names_link": state.settings.project_names_link,
        "help_link": root + "/help",
        "lab_timezone": state.settings.lab_timezone,
        "partial": is_partial(request),
    }


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
