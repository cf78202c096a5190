"""Texts that stand where there is no value: `NaN`, `#N/A`, a formula that was saved as text. Pure.

Programs write them into requests as well as into spreadsheets, so the check holds for all.
"""

import re

from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.plain_text import trim

_WORDS = frozenset(
    {
        *("nan", "-nan", "<na>", "nat", "n/a", "none", "<none>", "(none)"),
        *("null", "<null>", "(null)", "\\n", "undefined", "-", "--", "\u2013", "\u2014"),
    }
)
"""What programs and people write where there is no value, in lower case."""
_LONGEST_WORD = 20
"""Characters of such a word with blanks around it."""
_SUSPICIOUS = re.compile(r"\W*[=#]|\W*Err:")
_ERROR = re.compile(r"#[A-ZÀ-Ý][A-ZÀ-Ý0-9_/]*[!?]|#N/A|#N/D|#NV|#GETTING_DATA|Err:\d{3}")
"""Errors of Excel, also of its German, French and Spanish versions, of Google and LibreOffice."""


def no_value_problem(text: str) -> str:
    """Return why a text is not what was meant: an error, a formula or no value, saved as text.

    Parameters
    ----------
    text : str
        The text, which is not blank.

    Examples
    --------
    >>> no_value_problem("Ephys Platform"), no_value_problem("NaT")
    ('', '"NaT" is not a value; leave it empty, or write one')
    >>> bool(no_value_problem("#N/A")), bool(no_value_problem("=A2"))
    (True, True)
    """
    if len(text) <= _LONGEST_WORD and trim(text).lower() in _WORDS:
        return f"{quoted(trim(text))} is not a value; leave it empty, or write one"
    if not _SUSPICIOUS.match(text):
        return ""
    found = trim(text)
    if found.startswith("="):
        return (
            f"{quoted(found)} is a formula that was saved as text; write its result, or format the "
            "cell as General and enter the formula again"
        )
    if set(found) == {"#"} and found != "#":
        return (
            f"{quoted(found)} was saved because the column was too narrow to show the value; widen "
            "the column and save the file again"
        )
    if _ERROR.fullmatch(found):
        return f"{quoted(found)} is an error such as #REF! or #N/A; correct its formula"
    return ""


def refuse_no_value(text: str) -> None:
    """Refuse a text that is not what was meant.

    Parameters
    ----------
    text : str
        The text, which is not blank.

    Raises
    ------
    ValueError
        If it is an error, a formula or no value.
    """
    if problem := no_value_problem(text):
        raise ValueError(problem)
