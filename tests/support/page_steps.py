"""The steps of a page of the documentation, as a reader carries them out.

A step is a code block. Its caption says what it is:

- `On head`, `On node1 and node2`: commands that root runs on each of these machines.
- `/etc/slurm/slurm.conf, on head`: a file that is written there.
- `Added to /etc/slurm/slurm.conf, on head`: lines that are added to it.
- `Output`: what the commands before it print in the end; `…` stands for any text. The commands are
  run again until they print it.
- `Or …`: another way, which is not carried out.

Every block of the section has to be one of these, so that no step is left out by accident.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class PageError(Exception):
    """A code block of the page is not a step."""


class Kind(StrEnum):
    """What a reader does with a code block."""

    RUN = "run"
    WRITE = "write"
    APPEND = "append"
    OUTPUT = "output"


@dataclass(frozen=True)
class Step:
    """One code block.

    Attributes
    ----------
    kind : Kind
        What a reader does with it.
    line : int
        The line of the page on which the block begins.
    text : str
        The block, without its indentation.
    machines : tuple of str
        Where it is carried out.
    path : str
        The file that is written.
    """

    kind: Kind
    line: int
    text: str
    machines: tuple[str, ...] = ()
    path: str = ""

    def is_in(self, output: str) -> bool:
        """Return whether an output contains the text, which may have `…` for any text."""
        words = re.split(r"(\s+|…)", self.text.strip())
        return re.search("".join(map(_pattern, words)), output) is not None


def steps(page: str, section: str) -> list[Step]:
    """Read the steps of a section of a page.

    Parameters
    ----------
    page : str
        The page, in reStructuredText.
    section : str
        The title of the section, which is underlined by `-`.

    Raises
    ------
    PageError
        If the section does not exist, or a block in it has no caption that says what it is.
    """
    found = [step for block in _blocks(page, section) if (step := _step(*block)) is not None]
    for place, step in enumerate(found):
        if step.kind is Kind.OUTPUT and (place == 0 or found[place - 1].kind is not Kind.RUN):
            raise PageError(f"line {step.line}: an output has to follow the commands that print it")
    return found


def _blocks(page: str, section: str) -> Iterator[tuple[int, str, str]]:
    """Give the line, caption and text of each code block of a section."""
    lines = page.splitlines()
    first, last = _limits(lines, section)
    place = first
    while place < last:
        line, place = lines[place], place + 1
        is_directive = line.startswith((".. code-block::", ".. literalinclude::"))
        if not is_directive and not (line.endswith("::") and not line.startswith("..")):
            continue
        start, body = place, []
        while place < last and (not lines[place].strip() or lines[place].startswith(" ")):
            body.append(lines[place])
            place += 1
        indent = min((len(row) - len(row.lstrip()) for row in body if row.strip()), default=0)
        rows = [row[indent:] for row in body]
        options = []
        while is_directive and rows and rows[0].startswith(":"):
            options.append(rows.pop(0))
        caption = next((row for row in options if row.startswith(":caption:")), ":caption:")
        yield start, caption.removeprefix(":caption:").strip(), "\n".join(rows).strip("\n") + "\n"


def _limits(lines: list[str], section: str) -> tuple[int, int]:
    """Return the first line of a section after its title, and the first one that follows it."""
    titles = [
        place - 1
        for place, line in enumerate(lines)
        if place and lines[place - 1] and re.fullmatch(r"([-=])\1{3,}", line)
    ]
    for title in titles:
        if lines[title] == section:
            return title + 2, min((other for other in titles if other > title), default=len(lines))
    raise PageError(f"the page has no section {section!r}")


def _step(line: int, caption: str, text: str) -> Step | None:
    """Make the step of a block; None for one that is not carried out."""
    if caption == "Output":
        return Step(Kind.OUTPUT, line, text)
    if caption.startswith("Or "):
        return None
    if match := re.fullmatch(r"On (.+)", caption):
        return Step(Kind.RUN, line, text, _machines(match[1]))
    if match := re.fullmatch(r"(Added to )?(/\S+), on (.+)", caption):
        kind = Kind.APPEND if match[1] else Kind.WRITE
        return Step(kind, line, text, _machines(match[3]), match[2])
    raise PageError(f"line {line}: a code block whose caption ({caption!r}) is not one of a step")


def _machines(names: str) -> tuple[str, ...]:
    """Read names such as `head, node1 and node2`."""
    return tuple(re.split(r", | and ", names))


def _pattern(word: str) -> str:
    """Return the pattern of a piece of an output."""
    if word == "…":
        return r"[\s\S]*?"
    return r"\s+" if word.isspace() else re.escape(word)
