"""AWS credentials, resolved by botocore.

Sources are the usual ones: `AWS_*` variables, profiles, single sign-on, a web identity, the role of
the machine or container. Credentials that expire are refreshed before they do, and again when a
server says that they have expired. At most one refresh runs at a time, whatever the number of
requests in flight.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.upload.aws_config import read_profile
from aind_data_transfer_service.upload.retry import Fault, Kind
from aind_data_transfer_service.upload.signing import Keys
from aind_data_transfer_service.upload.store import S3Keys

logger = logging.getLogger(__name__)

_LOOK_EVERY = 10.0
"""Seconds between two looks at whether botocore has newer keys. botocore refreshes keys that live
for less than ten minutes whenever it is asked: asked per request, it ran a `credential_process` for
every other file."""
_RENEW_EVERY = 1.0
"""Seconds for which a renewal that found no other keys is not repeated for another request."""


class Credentials:
    """Credentials of one store. May be used from several threads at once.

    Parameters
    ----------
    given : S3Keys | None
        Those to use; by default what the environment has.
    clock : Callable
        Monotonic seconds.

    Raises
    ------
    DestinationError
        If there are none.
    """

    def __init__(self, given: S3Keys | None = None, clock: Callable[[], float] = time.monotonic):
        self._lock, self._clock = threading.Lock(), clock
        self._found: Any = None
        """botocore's credentials; None if the keys never change."""
        self._next_look = self._next_renewal = 0.0
        self._failure: str | None = None
        if given is not None:
            self._keys = Keys(given.access_key_id, given.secret_access_key, given.session_token)
        elif plain := _of_environment():
            self._keys = plain
        else:
            self._open()

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
                logger.warning("AWS credentials could not be refreshed: %s", error)
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
            if found is None:
                return "AWS credentials could not be refreshed: their source has none now"
            self._keys = _frozen(found)
        except _errors() as error:
            return f"AWS credentials could not be refreshed: {error}"
        self._found = found
        self._next_look = self._clock() + _LOOK_EVERY
        return None

    def _open(self) -> None:
        """Have botocore find credentials."""
        try:
            self._found = _session().get_credentials()
            if self._found is not None:
                self._keys = _frozen(self._found)
        except _errors() as error:
            raise DestinationError(f"no AWS credentials could be had: {error}") from error
        if self._found is None:
            raise DestinationError(
                "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or AWS_PROFILE"
            )
        self._next_look = self._clock() + _LOOK_EVERY


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
            if url := profile.endpoint_of(service_name):
                options.setdefault("endpoint_url", url)
            return super().create_client(service_name, *args, **options)

    profile, session = read_profile(), Session()
    ignoring = botocore.config.Config(ignore_configured_endpoint_urls=True)
    session.set_default_client_config(ignoring)
    return session


def _frozen(found: Any) -> Keys:
    """Return botocore's credentials as they are now."""
    frozen = found.get_frozen_credentials()
    return Keys(frozen.access_key, frozen.secret_key, frozen.token)


def _errors() -> tuple[type[Exception], ...]:
    """Return what botocore raises if credentials cannot be fetched.

    Besides its own exceptions: RuntimeError for refreshed keys that are expired, OSError for a
    `credential_process` that cannot be started, ValueError and KeyError for what it prints.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError, RuntimeError, OSError, ValueError, KeyError
