"""How jobs on a cluster reach the service with their events: its address, and a token for each job.

A job's token is the HMAC of its id, by a secret that the service makes once. So no token has to be
kept anywhere: the service knows one that it gave when it sees it.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.redaction import JOB_TOKEN

_BYTES = 32


class Callbacks:
    """Gives out tokens and knows them again.

    Parameters
    ----------
    url : str | None
        Address of the service as the nodes see it; None where jobs are not to call.
    file : Path
        Holds the secret; made by `open` where it is not there.
    """

    def __init__(self, url: str | None, file: Path):
        self._url = url.rstrip("/") if url else ""
        self._file = file
        self._secret = b""

    def open(self) -> None:
        """Read the secret, or make one. Where several do so at once, all have the same.

        Raises
        ------
        TransferServiceError
            Where the file cannot be written, or holds no secret.
        """
        if not self._url:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if not self._file.exists():
                self._make()
            if self._file.stat().st_mode & 0o077:  # as a copy from a backup may have it
                self._file.chmod(0o600)
            found = self._file.read_bytes()
        except OSError as error:
            raise TransferServiceError(
                f"the secret for callbacks cannot be kept: {error.strerror}: {self._file}; "
                "see INTERNAL_URL and DATA_DIR"
            ) from error
        if len(found) != _BYTES:
            raise TransferServiceError(
                f"{self._file} holds no secret for callbacks; remove it, and a new one is made"
            )
        self._secret = found

    @property
    def is_on(self) -> bool:
        """Whether jobs call."""
        return bool(self._secret)

    def environment(self, job_id: str) -> dict[str, str]:
        """Compose what a job needs in order to call; nothing where it is not to."""
        if not self._secret:
            return {}
        return {
            "UPLOAD_CALLBACK_URL": f"{self._url}/api/jobs/{job_id}/events",
            **self.cancel_environment(job_id),
        }

    def cancel_environment(self, job_id: str) -> dict[str, str]:
        """Return what a job, or a shard of it, needs to ask whether a user has cancelled it."""
        if not self._secret:
            return {}
        return {
            "UPLOAD_CANCEL_URL": f"{self._url}/api/jobs/{job_id}/cancel_request",
            "UPLOAD_CALLBACK_TOKEN": self._token(job_id),
        }

    def admits(self, job_id: str, token: str) -> bool:
        """Tell whether a token is this job's, in a time that does not tell how near it came."""
        if not self._secret:
            return False
        expected = self._token(job_id).removeprefix(JOB_TOKEN).encode()
        given = token.removeprefix(JOB_TOKEN)  # jobs of earlier releases have it without
        return hmac.compare_digest(expected, given.encode("utf-8", "replace"))

    def _token(self, job_id: str) -> str:
        """Compute a job's token."""
        message = job_id.encode("utf-8", "replace")
        return JOB_TOKEN + hmac.new(self._secret, message, hashlib.sha256).hexdigest()

    def _make(self) -> None:
        """Make the secret: it appears whole, for its owner alone, and once."""
        draft = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}")
        number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(number, "wb") as stream:
                stream.write(secrets.token_bytes(_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
            os.link(draft, self._file)
        except FileExistsError:  # another process was faster: its secret is taken
            return
        finally:
            draft.unlink()
