"""Tokens of Microsoft Entra ID, for a program that has a secret of its own.

The client credentials flow of the Microsoft identity platform: one POST to
`{authority}/{tenant}/oauth2/v2.0/token`. It is spoken here rather than through `msal`, which looks
up the authority in Microsoft's public list when it is made (so a national cloud of its own, a
proxy or a test needs that turned off), brings an HTTP client with settings of its own for
certificates and time, and caches in a format that nothing here shares.
"""

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote

import httpx

from aind_data_transfer_service import redaction
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.http import Web

_EARLY_SECONDS = 300.0
"""A token is renewed that long before its end, so that none ends on its way."""
_REASONS = {
    7000215: "the client secret is wrong; set the secret's value, not its id",
    7000222: "the client secret has expired; make a new one in Entra ID",
    700016: "the tenant has no application of this client id; look whether both are right",
    90002: "there is no such tenant; look whether its id is right",
    900023: "the tenant is neither an id nor a domain; look whether it is right",
    500011: "the tenant knows no resource of this scope; look whether the scope is right",
    70011: "the scope is not valid; it has to end in /.default",
    1002012: "the scope is not valid; it has to end in /.default",
    7000112: "the application is disabled; have it enabled in Entra ID",
    53003: "a conditional access policy of the tenant forbids it",
}
"""What is wrong and what helps, by the number in `AADSTS7000215`
(https://learn.microsoft.com/entra/identity-platform/reference-error-codes)."""


@dataclass(frozen=True)
class Application:
    """A program as Entra ID knows it."""

    authority: str
    """Such as ``https://login.microsoftonline.com``; national clouds have others."""
    tenant: str
    client_id: str
    secret: str
    scope: str
    """The resource that the token is for, with `/.default` at its end."""

    def __repr__(self) -> str:
        return f"Application({self.client_id!r} of {self.tenant!r})"


class EntraAuth(httpx.Auth):
    """Adds the token to each question, and a new one where it is refused, once.

    A token is asked for once and kept for all threads until shortly before its end.

    Parameters
    ----------
    application : Application
        In whose name.
    web : Web
        Asks Entra ID.
    clock : Callable
        Tells the seconds, to know when a token ends.
    """

    def __init__(
        self, application: Application, web: Web, clock: Callable[[], float] = time.monotonic
    ):
        redaction.learn(application.secret)
        self._application = application
        self._web = web
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._ends = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the token on a request; on 401 fetch another and ask again."""
        token = self.token()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {self.token(refused=token)}"
            yield request

    def token(self, refused: str = "") -> str:
        """Give a token that is good for a while.

        Parameters
        ----------
        refused : str
            A token that was refused, and is not to be given again.

        Raises
        ------
        MetadataError
            Where Entra ID gives none.
        """
        with self._lock:
            if not self._token or self._token == refused or self._clock() >= self._ends:
                self._token, lasts = self._fetch()
                self._ends = self._clock() + max(0.0, lasts - min(_EARLY_SECONDS, lasts / 2))
            return self._token

    def close(self) -> None:
        """Let go of the connections."""
        self._web.close()

    def _fetch(self) -> tuple[str, float]:
        """Ask for a token, and for how many seconds it lasts."""
        about = self._application
        url = f"{about.authority.rstrip('/')}/{quote(about.tenant, safe='')}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": about.client_id,
            "client_secret": about.secret,
            "scope": about.scope,
        }
        response = self._web.ask("POST", url, data=form)
        answer = self._web.json(response)
        if not isinstance(answer, dict):
            answer = {}
        token = answer.get("access_token")
        if response.status_code != 200 or not _is_token(token):
            raise MetadataError(
                f"{self._web.at(url)} gives no token: {self._reason(response, answer)}"
            )
        redaction.learn(token, renewed=True)
        return token, _seconds(answer.get("expires_in"))

    def _reason(self, response: httpx.Response, answer: dict[str, Any]) -> str:
        """Say why there is no token, without what was sent."""
        codes = answer.get("error_codes")
        for code in codes if isinstance(codes, list) else []:
            if isinstance(code, int) and code in _REASONS:
                return f"{_REASONS[code]} (AADSTS{code})"
        words = answer.get("error_description") or answer.get("error")
        if not isinstance(words, str) or not words.strip():
            return f"it answered {response.status_code} and does not say why"
        return redaction.redact(words).strip().splitlines()[0][:200]


def _is_token(value: Any) -> TypeGuard[str]:
    """Tell what can stand in a header from what cannot, and would be shown by the error."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and value.strip() > ""


def _seconds(value: Any) -> float:
    """Read how long a token lasts; some authorities write the number as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
