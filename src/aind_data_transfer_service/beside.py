"""Work done beside other work.

`concurrent.futures` has pools for that, but a process does not end before their threads do, and
these may wait for a drive or a server that nobody wants to hear any more.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def beside(work: Callable[[], T], name: str) -> "Future[T]":
    """Begin something in a thread that the end of the program does not wait for.

    Parameters
    ----------
    work : Callable
        What is done; an error of it is raised where the answer is asked for.
    name : str
        What the thread is called.
    """
    answer: Future[T] = Future()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:  # it is raised where the answer is looked at
            answer.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return answer
