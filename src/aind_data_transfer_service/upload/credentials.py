"""Whose name requests are made in, and where the bucket is.

Found as botocore finds them: the usual `AWS_*` variables, profiles, single sign-on, a web identity,
the machine's or container's role. What expires is renewed before it does, and once more where a
server says that it has.
"""

import os
import threading
from typing import Any

from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.upload.retry import Fault, Kind
from aind_data_transfer_service.upload.signing import Keys
from aind_data_transfer_service.upload.store import S3Keys

_REGION = "us-east-1"


class Credentials:
    """Credentials of one store.

    Parameters
    ----------
    given : S3Keys | None
        Those to use; by default what the environment has.

    Raises
    ------
    DestinationError
        Where there are none.
    """

    def __init__(self, given: S3Keys | None = None):
        self._lock = threading.Lock()
        self._given = given
        self._found: Any = None
        self._frozen: Any = None
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if given is not None:
            self._keys = Keys(given.access_key_id, given.secret_access_key, given.session_token)
            region = given.region or region
        elif region is None or (plain := _of_environment()) is None:
            region = self._find() or region
        else:
            self._keys = plain
        self.region: str = region or _REGION

    def keys(self) -> Keys:
        """Give them as they are now.

        Raises
        ------
        Fault
            Where they cannot be had at present.
        """
        if self._found is None:
            return self._keys
        try:
            frozen = self._found.get_frozen_credentials()
        except _errors() as error:
            raise Fault(Kind.PASSING, f"no credentials: {error}") from error
        if frozen != self._frozen:
            self._keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
            self._frozen = frozen
        return self._keys

    def renew(self) -> bool:
        """Look for them anew; tells whether there are others now."""
        if self._found is None:
            return False
        before = self.keys()
        with self._lock:
            self._find()
        return self.keys() != before

    def _find(self) -> str | None:
        """Have botocore find credentials, and tell the region that goes with them."""
        import botocore.session

        try:
            session = botocore.session.Session()
            found = session.get_credentials()
            region = session.get_config_variable("region")
        except _errors() as error:
            raise DestinationError(f"no AWS credentials could be had: {error}") from error
        if found is None:
            raise DestinationError(
                "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "or AWS_PROFILE"
            )
        self._found = found
        return os.environ.get("AWS_REGION") or region


def _of_environment() -> Keys | None:
    """Give keys that the environment names outright: nothing has to be loaded to find those.

    They come first of all with botocore too.
    """
    key, secret = (os.environ.get(f"AWS_{name}") for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    if not key or not secret or "AWS_CREDENTIAL_EXPIRATION" in os.environ:
        return None
    tokens = (os.environ.get(name) for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"))
    return Keys(key, secret, next(filter(None, tokens), None))


def _errors() -> tuple[type[Exception], ...]:
    """Tell what botocore raises; it is loaded only where it is needed."""
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError
