"""What the documentation quotes: its configurations, read out of the page."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "doc_template" / "source"


def code_block(page: str, caption: str) -> str:
    """Return the text of the code block with a caption."""
    text = (SOURCE / page).read_text(encoding="utf-8")
    pattern = rf"^\.\. code-block:: \w+\n   :caption: {re.escape(caption)}\n\n((?:(?:   .*)?\n)+)"
    found = re.findall(pattern, text, re.MULTILINE)
    if len(found) != 1:
        raise AssertionError(f"{page} has {len(found)} code blocks with the caption {caption!r}")
    return textwrap.dedent(found[0])


def adapt(text: str, changes: Mapping[str, str]) -> str:
    """Replace what differs on this machine: ports, folders. Each has to be in the text."""
    for before, after in changes.items():
        if before not in text:
            raise AssertionError(f"{before!r} is not in the documented configuration:\n{text}")
        text = text.replace(before, after)
    return text
