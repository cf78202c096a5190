"""AWS credentials, resolved by botocore.

Sources are the usual ones: `AWS_*` variables, profiles, single sign-on, a web identity, the role of
the machine or container. Credentials that expire are refreshed before they do, and again when a
server says that they have expired. At most one refresh runs at a time, whatever the number of
requests in flight. A `credential_process` has a limited time.
"""

import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.redaction import learn, redact
from aind_data_transfer_service.storage.model import Keys, S3Keys
from aind_data_transfer_service.storage.s3.aws_config import (
    KeySource,
    endpoint_of_environment,
    read_profile,
)
from aind_data_transfer_service.storage.s3.retry import Fault, Kind, Patience, Repeats

logger = logging.getLogger(__name__)

_LOOK_EVERY = 10.0
"""Seconds between two looks at whether botocore has newer keys. botocore refreshes keys that live
for less than ten minutes whenever it is asked: asked per request, it ran a `credential_process` for
every other file."""
_RENEW_EVERY = 1.0
"""Seconds for which a renewal that found no other keys is not repeated for another request."""
_START_SECONDS = 60.0
"""How long the first fetch is retried at most: until then the job has done nothing."""
_PROCESS_SECONDS = 30.0
"""How long a `credential_process` may take. Those that ask a server need a few seconds."""
_BOUNDED_COMMAND = str(Path(__file__).with_name("bounded_command.py"))
_TOKEN_FILE = "AWS_WEB_IDENTITY_TOKEN_FILE"
_OF_PROFILES = frozenset(
    "assume-role assume-role-with-web-identity shared-credentials-file config-file custom-process "
    "sso login".split()
)
"""How botocore calls the ways by which it finds keys that a profile names."""


class Credentials:
    """Credentials of one store. May be used from several threads at once.

    Parameters
    ----------
    given : S3Keys | None
        Those to use; by default what the environment has.
    seconds : float
        How long a first fetch that fails is retried, up to a minute.
    clock : Callable
        Monotonic seconds.
    tell : Callable
        Takes warnings.

    Raises
    ------
    DestinationError
        If there are none.
    """

    def __init__(
        self,
        given: S3Keys | None = None,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] = logger.warning,
    ):
        self._lock, self._clock = threading.Lock(), clock
        self._found: Any = None
        """botocore's credentials; None if the keys never change."""
        self._next_look = self._next_renewal = 0.0
        self._failure: str | None = None
        self.source = KeySource.CALLER
        """Where they come from."""
        if given is not None:
            self._keys = Keys(given.access_key_id, given.secret_access_key, given.session_token)
            learn(given.secret_access_key, given.session_token)
        elif plain := _of_environment():
            self._keys, self.source = plain, KeySource.ENVIRONMENT
        else:
            self._open(min(seconds, _START_SECONDS), tell)

    def keys(self) -> Keys:
        """Return the current keys, refreshed by botocore if they are about to expire.

        A refresh that fails is no error here: the keys may be valid for minutes yet, and the server
        says when they no longer are.
        """
        if self._found is None or self._clock() < self._next_look:
            return self._keys
        if self._lock.acquire(blocking=False):  # others go on with the keys they have
            try:
                self._keys = _frozen(self._found)
            except _errors() as error:
                logger.warning("AWS credentials could not be refreshed: %s", _words(error))
            finally:
                self._next_look = self._clock() + _LOOK_EVERY
                self._lock.release()
        return self._keys

    def renew(self, used: Keys) -> bool:
        """Look for keys other than those that a server refused as expired.

        Parameters
        ----------
        used : Keys
            The keys that the refused request was signed with.

        Returns
        -------
        bool
            Whether the keys are others now, because of this call or of another request's.

        Raises
        ------
        Fault
            If no credentials can be fetched at present; a later attempt may succeed.
        """
        if self._found is None:
            return False
        with self._lock:
            if self._keys == used and self._clock() >= self._next_renewal:
                self._failure = self._fetch()
                if self._keys == used:
                    self._next_renewal = self._clock() + _RENEW_EVERY
            if self._keys != used:
                return True
            if self._failure is not None:
                raise Fault(Kind.PASSING, self._failure)
            return False

    def _fetch(self) -> str | None:
        """Replace the keys by what the sources have now; return why that failed, if it did."""
        try:
            found = _session().get_credentials()
            if found is None or _source_of(found) is not self.source:
                return "AWS credentials could not be refreshed: their source has none now"
            self._keys = _frozen(found)
        except _errors() as error:
            return f"AWS credentials could not be refreshed: {_words(error)}"
        self._found = found
        self._next_look = self._clock() + _LOOK_EVERY
        return None

    def _open(self, seconds: float, tell: Callable[[str], None]) -> None:
        """Have botocore find credentials, and retry what may succeed later."""
        repeats = Repeats(tell)
        try:
            self._found = Patience(seconds).run(self._find, repeats)
        except Fault as fault:
            raise DestinationError(f"no AWS credentials could be had: {fault.words}") from fault
        if self._found is None:
            raise DestinationError(
                "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or AWS_PROFILE"
            )
        repeats.flush()
        self.source = _source_of(self._found)
        self._next_look = self._clock() + _LOOK_EVERY

    def _find(self) -> Any:
        """Return what botocore finds, if anything, and take its keys."""
        try:
            found = _session().get_credentials()
            if found is not None:
                self._keys = _frozen(found)
        except _errors() as error:
            kind = Kind.PASSING if _may_pass(error) else Kind.FINAL
            raise Fault(kind, _words(error)) from error
        return found


def _of_environment() -> Keys | None:
    """Return keys that the environment holds outright, for which nothing has to be loaded.

    They come first with botocore too.
    """
    key, secret = (os.environ.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    if not key or not secret or "AWS_CREDENTIAL_EXPIRATION" in os.environ:
        return None
    tokens = (os.environ.get(name) for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"))
    return Keys(key, secret, next(filter(None, tokens), None))


def _session() -> Any:
    """Return a new botocore session, which reads its files again.

    The clients that it makes to fetch credentials, such as of STS, do not use the endpoint of all
    services, which is the S3 server's: only one of their own, as `AWS_ENDPOINT_URL_STS`.
    """
    import botocore.config
    import botocore.session

    class Session(botocore.session.Session):
        def create_client(self, service_name: str, *args: Any, **options: Any) -> Any:
            url = endpoint_of_environment(service_name)
            if url is None and profile.rules(source):
                url = profile.endpoint_of(service_name)
            if url:
                options.setdefault("endpoint_url", url)
            return super().create_client(service_name, *args, **options)

    profile, session = read_profile(), Session()
    is_of_environment = os.environ.get(_TOKEN_FILE) and "role_arn" not in profile.values
    source = KeySource.ENVIRONMENT if is_of_environment else KeySource.PROFILE
    ignoring = botocore.config.Config(ignore_configured_endpoint_urls=True)
    session.set_default_client_config(ignoring)
    for values in session.full_config["profiles"].values():
        if command := values.get("credential_process"):
            values["credential_process"] = _bounded(command)
    return session


def _bounded(command: str) -> str:
    """Return the command line that runs a `credential_process` for a limited time."""
    words = (sys.executable, "-I", "-S", _BOUNDED_COMMAND, f"{_PROCESS_SECONDS:g}")
    return f"{shlex.join(words)} {command}"


def _source_of(found: Any) -> KeySource:
    """Return where botocore's credentials come from."""
    method = str(found.method)
    if method == "env":
        return KeySource.ENVIRONMENT
    if method == "assume-role-with-web-identity" and os.environ.get(_TOKEN_FILE):
        return KeySource.ENVIRONMENT
    return KeySource.PROFILE if method in _OF_PROFILES else KeySource.MACHINE


def _may_pass(error: Exception) -> bool:
    """Return whether a first fetch that failed may succeed later.

    A configuration that is wrong stays so, and so does what STS or a proxy refuses.
    """
    from botocore import exceptions

    if isinstance(error, exceptions.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return int(status) == 429 or int(status) >= 500
    if isinstance(error, exceptions.ProxyConnectionError):
        return "Tunnel connection failed: 4" not in str(error.kwargs.get("error"))
    if isinstance(error, exceptions.CredentialRetrievalError):
        return "cannot be started" not in str(error)
    if isinstance(error, exceptions.BotoCoreError):
        passing = (
            exceptions.HTTPClientError,
            exceptions.ConnectionError,
            exceptions.MetadataRetrievalError,
        )
        return isinstance(error, passing) and not isinstance(error, exceptions.SSLError)
    return True


def _words(error: Exception) -> str:
    """Return the message of an error in one line: what a process printed may have several."""
    return redact(" ".join(str(error).split()))


def _frozen(found: Any) -> Keys:
    """Return botocore's credentials as they are now."""
    frozen = found.get_frozen_credentials()
    learn(frozen.secret_key, frozen.token, renewed=True)
    return Keys(frozen.access_key, frozen.secret_key, frozen.token)


def _errors() -> tuple[type[Exception], ...]:
    """Return what botocore raises if credentials cannot be fetched.

    Besides its own exceptions: RuntimeError for refreshed keys that are expired, OSError for a
    `credential_process` that cannot be started, ValueError and KeyError for what it prints.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError, RuntimeError, OSError, ValueError, KeyError
