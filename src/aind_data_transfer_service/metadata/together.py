"""Several questions to one system at once.

`concurrent.futures` has pools for that, but a process does not end before their threads do, and
these may wait for a system that nobody wants to hear any more.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any


def ask_together(questions: Sequence[Callable[[], Any]], at_once: int) -> list[Future]:
    """Ask, and give the answers in the order of the questions, when all are there.

    Parameters
    ----------
    questions : Sequence of Callable
        What is asked.
    at_once : int
        How many questions are under way at the same time.
    """
    answers: list[Future] = [Future() for _ in questions]
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
        threading.Thread(target=work, name="question", daemon=True).start()
    wait(answers)
    return answers
