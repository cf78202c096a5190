"""Whether a user has cancelled this job, so that the signal which ends it is no time limit.

The service records the request, and creates a file where it shares a folder with the job, before it
has the job terminated. A job that cannot find out keeps what it has sent.
"""

import os
from collections.abc import Callable
from concurrent.futures import as_completed
from functools import partial

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.network.tls_trust import trust
from aind_data_transfer_service.settings.upload import UploadSettings

_SECONDS = 2.0
"""To wait for an answer: the file may be on a drive that hangs, and the service may be away."""


def is_cancelled(settings: UploadSettings) -> bool:
    """Return whether a user has cancelled the job, as far as can be found out in two seconds.

    Where no thread can be started, nobody is asked, and the job counts as not cancelled.

    Parameters
    ----------
    settings : UploadSettings
        Name the file and the address of the service.
    """
    ways: list[Callable[[], bool]] = []
    if settings.upload_cancel_file is not None:
        ways.append(partial(os.path.exists, settings.upload_cancel_file))
    if settings.upload_cancel_url and settings.upload_callback_token:
        token = settings.upload_callback_token.get_secret_value()
        ways.append(partial(_ask, settings.upload_cancel_url, token))
    with Pool(len(ways), "cancel request", in_caller=False) as pool:  # who asks must not hang
        answers = [pool.submit(way) for way in ways]
        begun = [answer for answer in answers if not answer.cancelled()]
        try:
            return any(
                answer.exception() is None and answer.result()
                for answer in as_completed(begun, _SECONDS)
            )
        except TimeoutError:
            return False


def _ask(url: str, token: str) -> bool:
    """Ask the service."""
    import httpx

    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(url, headers=headers, verify=trust(), timeout=_SECONDS)
    answer.raise_for_status()
    return answer.json()["data"]["cancel_requested"] is True
