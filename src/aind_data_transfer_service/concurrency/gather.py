"""Several questions to one system at once, in background threads."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

from aind_data_transfer_service.concurrency.daemon_thread import beside


def ask_together(questions: Sequence[Callable[[], Any]], at_once: int) -> list[Future[Any]]:
    """Ask, and give the answers in the order of the questions, when all are there.

    Parameters
    ----------
    questions : Sequence of Callable
        What is asked.
    at_once : int
        How many questions are under way at the same time.
    """
    answers: list[Future[Any]] = [Future() for _ in questions]
    left, lock = iter(list(zip(questions, answers))), threading.Lock()

    def work() -> None:
        while True:
            with lock:
                question, answer = next(left, (None, None))
            if question is None or answer is None:
                return
            try:
                answer.set_result(question())
            except BaseException as error:  # it is raised where the answer is looked at
                answer.set_exception(error)

    for _ in range(min(at_once, len(questions))):
        beside(work, "question")
    wait(answers)
    return answers
