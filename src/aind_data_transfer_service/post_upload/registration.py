"""The hook for registration: `metadata.nd.json` is posted to a database of documents.

The request bears a key (`Idempotency-Key`) that is the same whenever the same document of the same
asset is posted, so that a receiver can tell a repetition.
"""

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.post_upload.states import Registration, RegistrationState
from aind_data_transfer_service.settings.post_upload import AfterwardsSettings

if TYPE_CHECKING:
    from aind_data_transfer_service.metadata.http import Patience

_ATTEMPTS = 4


def register(
    settings: AfterwardsSettings, location: str, document: bytes, patience: "Patience | None" = None
) -> Registration:
    """Post a document; the answer says what went wrong, where something did.

    Parameters
    ----------
    settings : AfterwardsSettings
        Where to, with what token, and for how long.
    location : str
        Where the asset lies.
    document : bytes
        The very bytes that are stored.
    patience : Patience | None
        By default, as long as the settings say.
    """
    from aind_data_transfer_service.metadata.http import Patience, Web, client

    url, token = settings.registration_url or "", settings.registration_token
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": hashlib.sha256(location.encode() + b"\0" + document).hexdigest(),
    }
    if token:
        headers["Authorization"] = f"Bearer {token.get_secret_value()}"
    web = Web(
        "the registration",
        client(),
        patience or Patience(settings.registration_timeout, _ATTEMPTS),
    )
    try:
        answer = web.ask("POST", url, content=document, headers=headers)
    except MetadataError as error:
        return Registration(RegistrationState.FAILED, str(error))
    finally:
        web.close()
    if answer.is_success:
        return Registration(RegistrationState.COMPLETED)
    meaning = "; look at REGISTRATION_TOKEN" if answer.status_code in (401, 403) else ""
    reason = f"the registration at {urlsplit(url).netloc} refuses ({answer.status_code}){meaning}"
    return Registration(RegistrationState.FAILED, reason)
