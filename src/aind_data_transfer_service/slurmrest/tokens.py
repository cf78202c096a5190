"""Where the token comes from that slurmrestd wants: as it is, from a file, or from a command."""

import asyncio
import base64
import binascii
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from aind_data_transfer_service import redaction
from aind_data_transfer_service.slurmrest.errors import TokenUnavailable

RENEW_BEFORE = timedelta(seconds=60)
"""How long before its end a token is replaced, where a fresh one is to be had."""
_COMMAND_SECONDS = 60.0
_PREFIX = "SLURM_JWT="
_MAX_BYTES = 64 * 1024


class TokenSource(Protocol):
    """Yields tokens. Safe to use from many tasks of one event loop."""

    renewable: bool
    """Whether a fresh one may be had when one is rejected."""

    @property
    def expires_at(self) -> datetime | None:
        """When the token in hand ends; None where it does not say, or none was fetched yet."""
        ...

    async def current(self) -> str:
        """Give a token, as far as known a valid one."""
        ...

    async def renew(self, rejected: str) -> str:
        """Give another token than the rejected one; the same where there is no other."""
        ...


def expiry(token: str) -> datetime | None:
    """Read when a token ends; None where it is no JWT, or one that does not say."""
    payload = _payload(token)
    ends = payload.get("exp") if payload else None
    if isinstance(ends, bool) or not isinstance(ends, int | float):
        return None
    try:
        return datetime.fromtimestamp(ends, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def user_of(token: str) -> str:
    """Return the user that a token is for; empty if it does not say."""
    name = (_payload(token) or {}).get("sun")
    return name if isinstance(name, str) and name.isprintable() else ""


def is_jwt(token: str) -> bool:
    """Tell whether a token has the form that slurmctld takes."""
    return _payload(token) is not None


def token_source(
    token: str = "", file: Path | None = None, command: str = ""
) -> "FixedToken | FileToken | CommandToken":
    """Choose by what is set: a command before a file, a file before a token as it is."""
    if command.strip():
        return CommandToken(command)
    return FileToken(file) if file is not None else FixedToken(token)


class FixedToken:
    """A token that is what it is."""

    renewable = False

    def __init__(self, token: str):
        """Take the token."""
        self._token = token

    @property
    def expires_at(self) -> datetime | None:
        """When the token ends."""
        return expiry(_bare(self._token))

    async def current(self) -> str:
        """Give the token."""
        return _checked(self._token, "HPC_TOKEN")

    async def renew(self, rejected: str) -> str:
        """Give the same again: there is no other."""
        return await self.current()


class _Fetched(ABC):
    """A token that can be fetched again, kept until it is about to end."""

    renewable = True

    def __init__(self, now: Callable[[], datetime] | None = None):
        self._now = now or (lambda: datetime.now(UTC))
        self._token = ""
        self._lock = asyncio.Lock()

    @property
    def expires_at(self) -> datetime | None:
        """When the token in hand ends."""
        return expiry(self._token)

    async def current(self) -> str:
        """Give the token in hand, or a fresh one where that is about to end."""
        async with self._lock:
            if not self._token:
                self._token = await self._fetch()
            elif (ends := expiry(self._token)) and self._now() > ends - RENEW_BEFORE:
                await self._replace(ends)
            return self._token

    async def renew(self, rejected: str) -> str:
        """Fetch a fresh one, once for however many tasks were rejected with the same."""
        async with self._lock:
            if self._token == rejected:
                self._token = await self._fetch()
            return self._token

    async def _replace(self, ends: datetime) -> None:
        """Fetch a fresh one; where that fails, the one in hand does while it lasts."""
        try:
            self._token = await self._fetch()
        except TokenUnavailable:
            if self._now() >= ends:
                raise

    @abstractmethod
    async def _fetch(self) -> str:
        """Fetch a fresh one."""


class FileToken(_Fetched):
    """A token in a file that somebody else keeps fresh; a change is seen at the next request."""

    def __init__(self, path: Path, now: Callable[[], datetime] | None = None):
        """Name the file."""
        super().__init__(now)
        self._path = path
        self._seen: tuple[int, int] | None = None

    async def current(self) -> str:
        """Give the token in the file."""
        async with self._lock:
            if not self._token or self._stamp() != self._seen:
                self._token = await self._fetch()
        return await super().current()

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino

    async def _fetch(self) -> str:
        self._seen = self._stamp()
        return _checked(await asyncio.to_thread(self._read), f"HPC_TOKEN_FILE ({self._path})")

    def _read(self) -> str:
        try:
            with open(self._path, "rb") as file:
                return file.read(_MAX_BYTES).decode("utf-8", "replace")
        except OSError as error:
            raise TokenUnavailable(
                f"HPC_TOKEN_FILE: {self._path} cannot be read ({error.strerror}); it has to hold "
                "a token of Slurm and be readable by the service"
            ) from error


class CommandToken(_Fetched):
    """A token that a command prints, such as `scontrol token lifespan=3600`. No shell is used."""

    def __init__(
        self,
        command: str,
        now: Callable[[], datetime] | None = None,
        timeout: float = _COMMAND_SECONDS,
    ):
        """Take the command as it would be typed."""
        super().__init__(now)
        self._timeout = timeout
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise TokenUnavailable(f"HPC_TOKEN_COMMAND cannot be read: {error}") from error

    async def _fetch(self) -> str:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except (OSError, ValueError) as error:
            raise TokenUnavailable(
                f"HPC_TOKEN_COMMAND cannot be started: {self._arguments[0]}: {error}"
            ) from error
        said, complained = await self._finish(process)
        if process.returncode:
            words = " ".join(redaction.redact(complained.decode("utf-8", "replace")).split())[-300:]
            raise TokenUnavailable(
                f"HPC_TOKEN_COMMAND ended with exit code {process.returncode}"
                + (f": {words}" if words else "")
            )
        return _checked(said[:_MAX_BYTES].decode("utf-8", "replace"), "HPC_TOKEN_COMMAND")

    async def _finish(self, process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
        """Wait for the command, and leave none behind that takes too long."""
        try:
            async with asyncio.timeout(self._timeout):
                return await process.communicate()
        except TimeoutError as error:
            raise TokenUnavailable(
                f"HPC_TOKEN_COMMAND did not end within {self._timeout:g} s"
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _bare(text: str) -> str:
    return text.strip().removeprefix(_PREFIX).strip().strip("\"'")


def _checked(text: str, source: str) -> str:
    """Give the token in a text, as `scontrol token` prints it or bare."""
    token = _bare(text)
    if not token:
        raise TokenUnavailable(f"{source} holds no token; `scontrol token` makes one")
    if any(not "!" <= letter <= "~" for letter in token):
        raise TokenUnavailable(f"{source} holds something that is no token: it has blanks in it")
    redaction.learn(token, renewed=True)
    return token


def _payload(token: str) -> dict[str, Any] | None:
    """Read what a JWT says of itself, without checking whether it is genuine."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    return payload if isinstance(payload, dict) else None
