"""JSON objects that users write: how long, how deep, and of which characters they may be.

What is refused here would stop others later: a half of a surrogate pair cannot be sent to any
cluster, and an object of hundreds of levels cannot be copied.
"""

import json
from typing import Any

from aind_data_transfer_service.configs.limits import MAX_JOB_CHARACTERS
from aind_data_transfer_service.plain_text import first_wrong_places, is_deeper

MOST_CHARACTERS = MAX_JOB_CHARACTERS
MOST_LEVELS = 16


def read_object(text: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ValueError
        Says what is wrong with it, and what to write.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"longer than {MOST_CHARACTERS:,} characters; leave out what is not used")
    try:
        found = json.loads(text.strip() or "{}")
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({error}); write an object such as {{}}") from None
    if not isinstance(found, dict):
        raise ValueError('not a JSON object; write one such as {"mail_user": "…"}')
    if is_deeper(found, MOST_LEVELS):
        raise ValueError(f"deeper than {MOST_LEVELS} levels; write a flat object")
    if wrong := first_wrong_places(found):
        raise ValueError(f"{wrong}; correct it")
    return found
