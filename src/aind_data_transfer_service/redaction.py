"""The secrets that this process holds, and their removal from text that is stored, shown or logged.

Settings, token sources and credentials register each secret (`learn`, `learn_renewed`). Text that
comes from outside, such as the answer of a proxy that echoes a request, passes through `redact`
before it is stored or shown, and before it is cut. A filter on every log handler (`protect_logs`)
is the last barrier.

A secret is found in plain text, percent-encoded, escaped for JSON, HTML or Python, and within
base64, as in an `Authorization: Basic` header. Secrets shorter than `SHORTEST` characters, and
those of examples (`password`), are left alone: common words would vanish from messages. Passwords
in addresses, JSON web tokens, the callback tokens of jobs and private keys (PEM) are found by their
form, known or not.

A secret of several lines may be cut between two pieces of a log. So its longer lines are secrets
themselves, and a piece that begins or ends within one is redacted with `is_cut`.
"""

import base64
import logging
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "[hidden]"
SHORTEST = 6
"""Characters of the shortest secret that is searched for in text."""
_GUESSABLE = 12
"""Characters below which the path of an address without a digit is a word, such as `notify`."""
_PLACEHOLDERS = frozenset({"password", "postgres", "secret"})
"""What examples use as passwords. Messages are full of these words, so they stay."""
JOB_TOKEN = "adts_"
"""How the callback token of a job begins. A service has too many of them to register each."""
_RENEWED = 32
"""How many tokens and keys that replaced each other are remembered: those of the last hours."""
_DEEPEST = 64
_SECRET = re.compile(r"(?:PASSWORD|PASSWD|SECRET|TOKEN|JWT|API_?KEY|ACCESS_KEY)$", re.IGNORECASE)
"""How variables are named that hold a secret. Those that name a file or an id end otherwise."""
_MARKS = ("://", JOB_TOKEN, "eyJ")
_FORMS = re.compile(
    r"(?P<login>://[^\s/@:\"'<>]*:)[^\s/@\"'<>]+(?=@)"
    rf"|{JOB_TOKEN}[0-9a-f]{{8,64}}"
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?"
)
_LONG_LINE = 16
"""Characters from which a line of a longer secret is searched for by itself, and"""
_MOST_LINES = 500
_KEY_LINE = re.compile(rf"[A-Za-z0-9+/=]{{{SHORTEST},}}")
"""the lines of a private key for which this holds whatever their length."""
_LONGEST_KEY = 16 * 1024
"""Characters of the longest private key that is found by its form."""
_KEY_MARK = "PRIVATE KEY"
_KEY_MARKS = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BODY = re.compile(
    r"(?:\[hidden\]|[A-Za-z0-9+/=\s\\]"
    r"|(?:Proc-Type|DEK-Info|Version|Comment|Charset|Hash):[^\n\\]*)*"
)
"""What a private key has between its first and its last line, also if some of it is hidden."""
_KEY_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\\ \t\r\n"
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-%")
_URL_SAFE = {"+": "-", "/": "_"}
_NAMED = {
    **{"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"},
    **{"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f", " ": r"\+"},
}
"""What else a character is written as: in HTML, after a backslash, or in a form."""
_SLASH = r"(?:\\|%(?:25)*5[Cc])"
_MOST_ESCAPES = 8
"""Backslashes before one character: text may be escaped several times."""


@dataclass(frozen=True)
class _Needle:
    """What is searched for because of one secret."""

    core: str
    """The longest part that every spelling has in common: searched for first, which is fast."""
    pattern: re.Pattern[str]
    is_base64: bool = False


class Redactor:
    """Knows secrets, and removes them from text. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: set[str] = set()
        self._known: dict[str, tuple[_Needle, ...]] = {}
        self._renewed: deque[str] = deque()
        self._needles: tuple[_Needle, ...] = ()
        self._of_lines: tuple[list[str], ...] = ()

    def learn(self, *secrets: str | None, renewed: bool = False) -> None:
        """Register secrets.

        Parameters
        ----------
        *secrets : str | None
            The secrets. Those shorter than `SHORTEST` are not searched for in text.
        renewed : bool
            Whether these replace earlier ones, such as tokens; the last `_RENEWED` are remembered.
        """
        with self._lock:
            if not renewed:
                self._values.update(filter(None, secrets))
            fresh = {one for one in secrets if one and len(one) >= SHORTEST}
            fresh -= self._known.keys() | _PLACEHOLDERS
            if not fresh:
                return
            self._known |= {one: tuple(_needles(one)) for one in fresh}
            if renewed:
                self._renewed.extend(fresh)
            while len(self._renewed) > _RENEWED:
                del self._known[self._renewed.popleft()]
            found = sorted(self._known, key=len, reverse=True)  # one may be a part of another
            self._needles = tuple(needle for one in found for needle in self._known[one])
            lines = (one.strip("\r\n").splitlines() for one in found)
            self._of_lines = tuple(some for some in lines if len(some) > 1)

    def learn_setting(self, value: str) -> None:
        """Register a setting that is secret; of an address, the parts that are."""
        if "://" not in value:
            self.learn(value)
            return
        self._values.add(value)
        self.learn_address(value)
        if value.startswith(("http:", "https:")):  # who knows the path of a webhook can write there
            self.learn(value, _guarded_path(value))

    def learn_address(self, address: str) -> None:
        """Register the password of an address, and the secrets in its query."""
        try:
            parts = urlsplit(address)
        except ValueError:  # no address, so it has no password
            return
        if password := parts.password:
            login = f"{unquote(parts.username or '')}:{unquote(password)}"
            self.learn(password, unquote(password), login)
        self.learn(*(value for name, value in parse_qsl(parts.query) if _SECRET.search(name)))

    def learn_environment(self, environment: Mapping[str, str]) -> None:
        """Register the secrets of an environment: by the names of variables, and in addresses."""
        for name, value in environment.items():
            if _SECRET.search(name):
                self.learn_setting(value)
            elif "://" in value:
                self.learn_address(value)
            elif name.upper().endswith("_PROXY"):
                self.learn_address(f"http://{value}")

    def is_secret(self, text: str) -> bool:
        """Return whether a text is a registered secret of any length, and nothing else."""
        return text in self._values

    def holds(self, text: str) -> bool:
        """Return whether a text is or contains a registered secret."""
        return self.is_secret(text) or any(
            one.core in text and one.pattern.search(text) for one in self._needles
        )

    def redact(self, text: str, is_cut: bool = False) -> str:
        """Return a text without secrets.

        Parameters
        ----------
        text : str
            The text.
        is_cut : bool
            Whether the text is a piece of whole lines, so that a secret of several lines may be
            continued in the next piece, or have begun in an earlier one.
        """
        return self.redact_range(text, 0, len(text), is_cut)

    def redact_range(self, text: str, start: int, end: int, is_cut: bool = False) -> str:
        """Return a range of a text without secrets, even those that cross an end of the range.

        Parameters
        ----------
        text : str
            The text, with what is around the range.
        start : int
            Where the range begins. A secret that begins before it is left out.
        end : int
            Where the range ends.
        is_cut : bool
            Whether the text itself may begin or end within a secret of several lines.
        """
        pieces, place = [], start
        for first, last in self._places(text, is_cut):
            if last <= start or first >= end:
                continue
            pieces.append(text[place : max(first, place)])
            if first >= start:
                pieces.append(HIDDEN)
            place = min(last, end)
        return "".join([*pieces, text[place:end]])

    def _places(self, text: str, is_cut: bool) -> list[tuple[int, int]]:
        """Return where secrets are, in order; those that overlap are one."""
        found: list[tuple[int, int]] = []
        for needle in self._needles:
            if needle.core in text:
                found += _find(text, needle)
        if any(mark in text for mark in _MARKS):
            forms = _FORMS.finditer(text)
            found += [(max(one.start(), one.end("login")), one.end()) for one in forms]
        if _KEY_MARK in text:
            found += [place for place in _private_keys(text) if place[0] < place[1]]
        if is_cut:
            for lines in self._of_lines:
                found += _cut_secrets(text, lines)
        places: list[tuple[int, int]] = []
        for first, last in sorted(found):
            if places and first < places[-1][1]:
                places[-1] = (places[-1][0], max(last, places[-1][1]))
            else:
                places.append((first, last))
        return places


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Yield where private keys are, without their first and last lines; either may be missing."""
    place, begun = 0, None
    for mark in _KEY_MARKS.finditer(text):
        is_end, start = mark[1] == "END", mark.start()
        is_whole = is_end and begun is not None and start - begun <= _LONGEST_KEY
        if begun is not None:
            yield begun, start if is_whole else _end_of_body(text, begun, start)
        if is_end and not is_whole:
            near = text[max(place, start - _LONGEST_KEY) : start]
            yield start - len(near) + len(near.rstrip(_KEY_SIGNS)), start
        place, begun = mark.end(), None if is_end else mark.end()
    if begun is not None:
        yield begun, _end_of_body(text, begun, len(text))


def _end_of_body(text: str, start: int, end: int) -> int:
    """Return where the body of a private key ends whose last line is missing."""
    body = _KEY_BODY.match(text, start, end)
    return body.end() if body else start


def _cut_secrets(text: str, lines: list[str]) -> Iterator[tuple[int, int]]:
    """Yield where a text ends with the first lines of a secret, or begins with the last."""
    first, last = len(text) - len(text.lstrip("\r\n")), len(text.rstrip("\r\n"))
    inner = text[first:last]
    if len(inner) >= SHORTEST and f"\n{inner}\n" in "\n".join(["", *lines, ""]):
        yield first, last
        return
    heads = ("\n".join(lines[:count]) for count in range(len(lines) - 1, 0, -1))
    tails = ("\n".join(lines[count:]) for count in range(1, len(lines)))
    head = next((one for one in heads if inner.endswith(one)), "")
    tail = next((one for one in tails if inner.startswith(one)), "")
    if len(head) >= SHORTEST:
        yield last - len(head), last
    if len(tail) >= SHORTEST:
        yield first, first + len(tail)


def _guarded_path(address: str) -> str | None:
    """Return what of a secret address is searched for without its host: not an ordinary word."""
    text = "".join(re.split(r"([/?#])", address.split("://", 1)[1])[2:])
    is_ordinary = len(text) < _GUESSABLE and not any(sign.isdigit() for sign in text)
    return None if is_ordinary else text


def _needles(secret: str) -> Iterator[_Needle]:
    """Return what to search for because of a secret: itself, its lines, and it in base64."""
    yield _needle(secret)
    is_key = _KEY_MARK in secret
    for line in dict.fromkeys(map(str.strip, secret.splitlines()[:_MOST_LINES])):
        is_long = len(line) >= _LONG_LINE or (is_key and _KEY_LINE.fullmatch(line))
        if line != secret.strip() and is_long and not line.startswith("-----"):
            yield _needle(line)
    data = secret.encode("utf-8", "surrogatepass")
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + data).decode()
        # Characters at the ends depend on the neighbours of the secret as well.
        begin, end = (8 * shift + 5) // 6, 8 * (shift + len(data)) // 6
        if end - begin >= SHORTEST:
            yield _needle(text[begin:end], is_base64=True)


def _needle(text: str, is_base64: bool = False) -> _Needle:
    """Compile what finds a text in any spelling."""
    core = max(re.split(r"[^A-Za-z0-9]+", text), key=len)
    pieces = re.findall(r"\\+|[^\\]", text, re.DOTALL)
    pattern = "".join(_spellings(piece, _URL_SAFE if is_base64 else {}) for piece in pieces)
    return _Needle(core, re.compile(pattern), is_base64)


def _spellings(piece: str, others: Mapping[str, str]) -> str:
    """Return a pattern for a character, or for a run of backslashes, in every spelling."""
    sign = piece[0]
    if sign.isascii() and sign.isalnum():
        return sign
    code, units = ord(sign), sign.encode("utf-16-be", "surrogatepass").hex()
    percent = "".join(f"%(?:25)*{byte:02x}" for byte in sign.encode("utf-8", "surrogatepass"))
    halves = (units[at : at + 4] for at in range(0, len(units), 4))
    escaped = "".join(f"{_SLASH}{{0,{_MOST_ESCAPES}}}u{half}" for half in halves)
    python = f"x{code:02x}|u{code:08x}"
    found = [f"(?i:{percent}|{escaped}|{python}|&#0*{code};|&#x0*{code:x};)", re.escape(sign)]
    if sign in _NAMED:
        found.append(_NAMED[sign])
    if sign in others:
        found.append(others[sign])
    pattern = f"(?:{'|'.join(found)})"
    if sign == "\\":
        return f"{pattern}{{{len(piece)},{_MOST_ESCAPES * len(piece)}}}"
    return f"{_SLASH}{{0,{_MOST_ESCAPES}}}{pattern}"


def _find(text: str, needle: _Needle) -> Iterator[tuple[int, int]]:
    """Yield where a needle is; in base64, with everything around it that is base64 too."""
    place = 0
    while found := needle.pattern.search(text, place):
        start, end = found.span()
        while needle.is_base64 and start > place and text[start - 1] in _BASE64:
            start -= 1
        while needle.is_base64 and end < len(text) and text[end] in _BASE64:
            end += 1
        yield start, end
        place = end


_REDACTOR = Redactor()
learn = _REDACTOR.learn
learn_setting = _REDACTOR.learn_setting
learn_address = _REDACTOR.learn_address
learn_environment = _REDACTOR.learn_environment
holds_secret = _REDACTOR.holds
redact = _REDACTOR.redact
redact_range = _REDACTOR.redact_range


def redact_all(value: Any, depth: int = _DEEPEST) -> Any:
    """Return JSON without secrets in any text or name; what is nested too deeply is left out."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping | list | tuple) and not depth:
        return HIDDEN
    if isinstance(value, Mapping):
        return {redact_all(name): redact_all(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [redact_all(item, depth - 1) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def on_a_line(text: str, most: int) -> str:
    """Return a text from outside on one line, without secrets and then cut to size."""
    return " ".join(redact(text).split())[:most]


class RedactingFilter(logging.Filter):
    """Removes secrets from a record: from its message, its traceback and its extra fields."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record, which is always logged."""
        _redact_message(record)
        if record.exc_info and not record.exc_text:
            record.exc_text = self._formatter.formatException(record.exc_info)
        if record.exc_text and (redacted := redact(record.exc_text)) != record.exc_text:
            record.exc_text, record.exc_info = redacted, None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        extra = record.__dict__.keys() - _OF_RECORDS
        record.__dict__.update({name: redact_all(record.__dict__[name]) for name in extra})
        return True


_OF_RECORDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}
_FILTER = RedactingFilter()


def _redact_message(record: logging.LogRecord) -> None:
    """Redact the message of a record, and keep its arguments if possible: some formatters use them.

    If the arguments do not fit, they are appended: logging would print them as they are.
    """
    try:
        message = record.getMessage()
    except Exception:
        record.msg, record.args = redact(f"{record.msg} {record.args!r}"), None
        return
    redacted = redact(message)
    if redacted == message:
        return
    if isinstance(record.args, tuple):
        record.args = tuple(redact(one) if isinstance(one, str) else one for one in record.args)
    if redact(record.getMessage()) != record.getMessage():
        record.msg, record.args = redacted, None


def protect_logs(handlers: Iterable[logging.Handler] | None = None) -> None:
    """Have log handlers redact what they write; by default all that there are.

    Parameters
    ----------
    handlers : Iterable[logging.Handler] | None
        The handlers.
    """
    if handlers is None:
        named = logging.root.manager.loggerDict.values()
        loggers = [logging.root, *(one for one in named if isinstance(one, logging.Logger))]
        handlers = [handler for logger in loggers for handler in logger.handlers]
        if logging.lastResort is not None:
            handlers.append(logging.lastResort)
    for handler in handlers:
        handler.addFilter(_FILTER)  # the same filter is not added twice
