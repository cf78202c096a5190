"""Asking several sources several things at once, and waiting no longer than is allowed.

Every question has a thread of its own, which nobody waits for when the time is over: a driver or a
network drive may hold it for longer than anyone has patience.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import MetadataError

logger = logging.getLogger(__name__)
_NAP_SECONDS = 0.2
"""How long one wait takes: a signal that comes just as it begins is only heard at its end."""


@dataclass(frozen=True)
class Answer:
    """What one source said to one question."""

    source: str
    """The source, as the settings call it."""
    value: Any = None
    """What it gave; None or an empty list where it knows nothing."""
    problem: str = ""
    """Why there is no answer, in words."""
    seconds: float = 0.0


class Inquiry:
    """Questions that were asked together.

    Parameters
    ----------
    seconds : float
        How long all the answers may take, from now on.
    """

    def __init__(self, seconds: float):
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._open: dict[tuple[str, str], Future[Answer]] = {}

    def ask(self, kind: str, source: str, question: Callable[[], Any]) -> None:
        """Put a question to a source, in a thread of its own."""
        work = partial(_answer, source, question)
        self._open[kind, source] = beside(work, f"{source} {kind}")

    def answer(self, kind: str, source: str) -> Answer:
        """Wait for an answer, as long as there is time."""
        answer, left = self._open[kind, source], self._seconds
        while left > 0 and not answer.done():
            left = self._until - time.monotonic()
            wait([answer], max(0.0, min(left, _NAP_SECONDS)))
        if answer.done():
            return answer.result()
        words = f"did not answer within {self._seconds:g} s in all"
        return Answer(source, problem=words, seconds=self._seconds)


def ask_all(questions: Mapping[tuple[str, str], Callable[[], Any]], seconds: float) -> Inquiry:
    """Ask everything at once; the questions stand by kind of document and source."""
    inquiry = Inquiry(seconds)
    for (kind, source), question in questions.items():
        inquiry.ask(kind, source, question)
    return inquiry


def _answer(source: str, question: Callable[[], Any]) -> Answer:
    """Ask, and make an answer of whatever comes."""
    began = time.monotonic()
    value, problem = None, ""
    try:
        value = question()
    except MetadataError as error:
        problem = " ".join(str(error).split())
    except Exception as error:  # one source that fails oddly must not take the others with it
        logger.debug("%s failed in a way that was not foreseen", source, exc_info=True)
        problem = f"failed in a way that was not foreseen ({type(error).__name__})"
    return Answer(source, value, problem, round(time.monotonic() - began, 3))
