"""Registration: post `metadata.nd.json` to a document database.

Each request has an `Idempotency-Key`, which is the same whenever the same document of the same
asset is posted, so that the receiver can recognize duplicates.
"""

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.post_upload.states import Registration, RegistrationState
from aind_data_transfer_service.settings.post_upload import PostUploadSettings

if TYPE_CHECKING:
    from aind_data_transfer_service.metadata.http import Patience

_ATTEMPTS = 4


def post_registration(
    settings: PostUploadSettings, location: str, document: bytes, patience: "Patience | None" = None
) -> Registration:
    """Post a document, and return whether the receiver accepted it.

    Parameters
    ----------
    settings : PostUploadSettings
        The address, the token and the time limit.
    location : str
        The URI of the asset.
    document : bytes
        The document, exactly as it is stored.
    patience : Patience | None
        Default: the time limit of the settings.
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
        response = web.ask("POST", url, content=document, headers=headers)
    except MetadataError as error:
        return Registration(RegistrationState.FAILED, str(error))
    finally:
        web.close()
    if response.is_success:
        return Registration(RegistrationState.COMPLETED)
    hint = "; check REGISTRATION_TOKEN" if response.status_code in (401, 403) else ""
    reason = (
        f"the registration at {urlsplit(url).netloc} rejected the document "
        f"({response.status_code}){hint}"
    )
    return Registration(RegistrationState.FAILED, reason)
