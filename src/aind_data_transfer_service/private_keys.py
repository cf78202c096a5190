"""Find the bodies of private keys (PEM) in text, even if the first or the last part is missing.

If both marks of a key are there, everything between them is its body. If one mark is missing, the
lines next to the other mark are compared with what a key has: long lines of base64, of which the
last may be shorter. Each line may have a prefix and a suffix, as in a log, a quotation or JSON.
"""

import re
from collections.abc import Iterator, Sequence

HIDDEN = "[hidden]"
"""What replaces a secret: it may replace the lines of a key that were redacted earlier."""
_LONGEST_KEY = 16 * 1024
"""Characters of the longest key."""
_BLANK = r"(?: |\+|%20)"
_MARK = re.compile(
    rf"-----(BEGIN|END)(?:[A-Z0-9 +]|%20){{0,40}}PRIVATE{_BLANK}KEY(?:{_BLANK}BLOCK)?-----"
)
_LINE_BREAK = re.compile(r"[\r\n]|\\{1,8}(?:[rn]|u000[AaDd])|%0[AaDd]|&#(?:10|13|x0?[AaDd]);")
_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/=]|\\{1,8}/|(?:\\{1,8}u00|%|&#x)(?:2[BbFf]|3[Dd]);?|&#(?:43|47|61);"
    rf"|{re.escape(HIDDEN)})+"
)
_HEX = re.compile("[0-9a-f]+")
_MIXED_LENGTH, _LINE_LENGTH = 24, 40
"""Characters from which base64 is taken for a line of a key: with upper case, lower
case and digits, and without. Keys have lines of 64 to 76 characters; prose has few such words."""
_PATH_DEPTH = 3
"""Slashes from which text that begins with one is a path."""
_MOST_OTHERS = 4
"""Lines that may be between those of a key, such as `DEK-Info`, or messages of other threads."""
_LONGEST_PREFIX = 500
"""Characters around base64 on a line, above which no short line is compared with it."""
_WORD = re.compile(r"\S+")
_WITH_DIGIT = re.compile(r"[^\W\d]*\d\w*")
_Span = tuple[int, int]


def find_private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the bodies of private keys are in a text."""
    place, begin = 0, None
    for mark in _MARK.finditer(text):
        is_end, start = mark[1] == "END", mark.start()
        is_complete = is_end and begin is not None and start - begin.end() <= _LONGEST_KEY
        if is_complete and begin is not None:
            yield begin.end(), start
        elif begin is not None:
            yield from _find_after(text, begin, start)
        if is_end and not is_complete:
            yield from _find_before(text, mark, begin.end() if begin else place)
        place, begin = mark.end(), None if is_end else mark
    if begin is not None:
        yield from _find_after(text, begin, len(text))


def _find_after(text: str, mark: re.Match[str], end: int) -> Iterator[_Span]:
    """Yield the lines of a key after its BEGIN mark; its END mark is missing."""
    first, *others = _split(text, mark.end(), min(end, mark.end() + _LONGEST_KEY))
    lines = [*_split_flattened(text, first), *others]
    length, pattern, misses = 0, None, 0
    for line in lines:
        if runs := _long_runs(text, line):
            yield from runs
            length, pattern, misses = _length(text, runs[-1]), _pattern(text, line, runs[-1]), 0
        elif run := _short_run(text, line, pattern, length):
            yield run
            if _length(text, run) < length:  # the last line of the key
                return
        elif (misses := misses + 1) > _MOST_OTHERS:
            return


def _find_before(text: str, mark: re.Match[str], start: int) -> Iterator[_Span]:
    """Yield the lines of a key before its END mark; its BEGIN mark is missing."""
    first = max(start, mark.start() - _LONGEST_KEY)
    *lines, own = _split(text, first, mark.start())
    is_flattened = bool(_long_runs(text, own))
    lines += _split_flattened(text, own) if is_flattened else []
    lines = [line for line in lines if _BASE64.search(text, *line)]
    if not lines:
        return
    end = _LINE_BREAK.search(text, mark.end(), mark.end() + _LONGEST_PREFIX)
    whole = (own[0], end.start() if end else min(len(text), mark.end() + _LONGEST_PREFIX))
    pattern = None if is_flattened else _pattern(text, whole, mark.span())
    yield from _find_last_line(text, lines, pattern, is_cut_off=first == 0 or first > start)
    length, misses = 0, 0
    for line in reversed(lines):
        if runs := _long_runs(text, line):
            yield from runs
            length, pattern, misses = _length(text, runs[0]), _pattern(text, line, runs[0]), 0
        elif run := _short_run(text, line, pattern, length):
            yield run
        elif (misses := misses + 1) > _MOST_OTHERS:
            return


def _find_last_line(
    text: str, lines: Sequence[_Span], pattern: re.Pattern[str] | None, is_cut_off: bool
) -> Iterator[_Span]:
    """Yield the last line of a key, which may be short, if a line of a key is before it.

    If the text begins with that line, what was before it is not known.
    """
    if not lines or _long_runs(text, lines[-1]):
        return
    runs = _long_runs(text, lines[-2]) if len(lines) > 1 else []
    if runs or (is_cut_off and len(lines) == 1):
        pattern = _pattern(text, lines[-2], runs[-1]) if runs else pattern
        if run := _short_run(text, lines[-1], pattern, _LONGEST_KEY):
            yield run


def _split(text: str, start: int, end: int) -> list[_Span]:
    """Return the first and the last line of a range of a text, and those between with letters.

    Line breaks may be escaped.
    """
    lines, place = [], start
    for found in _LINE_BREAK.finditer(text, start, end):
        lines.append((place, found.start()))
        place = found.end()
    lines.append((place, end))
    return [
        *lines[:1],
        *(one for one in lines[1:-1] if _BASE64.search(text, *one)),
        *lines[1:][-1:],
    ]


def _split_flattened(text: str, line: _Span) -> list[_Span]:
    """Return the words of a line that has lines of a key, separated by blanks; else the line."""
    if not _long_runs(text, line):
        return [line]
    return [found.span() for found in _WORD.finditer(text, *line)]


def _long_runs(text: str, line: _Span) -> list[_Span]:
    """Return where a line has base64 that is as long as a line of a key."""
    return [run.span() for run in _BASE64.finditer(text, *line) if _is_of_key(run[0])]


def _is_of_key(run: str) -> bool:
    """Return whether base64 is a line of a key, and not a word, a path or a hash."""
    if HIDDEN in run:
        return True
    is_path = run.startswith("/") and run.count("/") >= _PATH_DEPTH
    if len(run) < _MIXED_LENGTH or is_path or _HEX.fullmatch(run):
        return False
    if len(run) >= _LINE_LENGTH:
        return True
    return all(re.search(kind, run) for kind in ("[A-Z]", "[a-z]", "[0-9]"))


def _short_run(
    text: str, line: _Span, pattern: re.Pattern[str] | None, longest: int
) -> _Span | None:
    """Return where a line has base64 at the same place as a line of the key has it."""
    found = pattern.fullmatch(text, *line) if pattern else None
    return found.span(1) if found and _length(text, found.span(1)) <= longest else None


def _pattern(text: str, line: _Span, run: _Span) -> re.Pattern[str] | None:
    """Return a pattern for lines that have base64 at the same place, such as a log's lines.

    Words with digits may differ: they count lines, or are a time.
    """
    before, after = text[line[0] : run[0]], text[run[1] : line[1]]
    if len(before) + len(after) > _LONGEST_PREFIX:
        return None
    before, after = (_like(part) for part in (before, after))
    return re.compile(rf"{before}({_BASE64.pattern})(?:{after}|[^A-Za-z0-9+/=]*)")


def _like(text: str) -> str:
    """Return a pattern for a text whose words with digits may be others."""
    pieces = _WITH_DIGIT.split(text)
    return r"\w+".join(map(re.escape, pieces))


def _length(text: str, run: _Span) -> int:
    """Return how long a line of a key is; what was redacted may have been as long as any."""
    return _LONGEST_KEY if text.startswith(HIDDEN, run[0]) else run[1] - run[0]
