"""The envelope that every JSON answer comes in: `{"message": str, "data": object}`."""

import json
from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from aind_data_transfer_service.configs.error_messages import MOST_ERRORS, first_errors
from aind_data_transfer_service.redaction import redact_all


class Envelope(BaseModel):
    """What every answer looks like."""

    message: str = Field(description="One line that says what happened.")
    data: dict[str, Any] = Field(description="What was asked for; `errors` where there were any.")


class EnvelopeResponse(JSONResponse):
    """An answer in its envelope, whatever strange text it has to carry."""

    def __init__(self, message: str, data: dict[str, Any], status_code: int = 200) -> None:
        """Pack `data`, of values that JSON knows."""
        for name in {"errors", "warnings"} & data.keys():
            texts = list(data[name])  # a text is redacted before it is cut
            texts[: MOST_ERRORS + 1] = redact_all(texts[: MOST_ERRORS + 1])
            data = {**data, name: first_errors(texts, name.removesuffix("s"), name)}
        super().__init__({"message": message, "data": data}, status_code=status_code)

    def render(self, content: Any) -> bytes:
        """Write JSON; half characters, which UTF-8 cannot carry, are written as escapes."""
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def failure(status_code: int, message: str, errors: Sequence[str] = ()) -> EnvelopeResponse:
    """Say that a request was refused, and why."""
    return EnvelopeResponse(message, {"errors": list(errors)}, status_code)


DOCUMENTED_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Envelope, "description": "Refused; `data.errors` says why."},
    "5XX": {"model": Envelope, "description": "Failed; `data.errors` says what."},
}
