"""What tests share: the rule about missing pieces, free ports, waiting without sleeping blindly."""

import asyncio
import os
import random
import socket
import time
import unittest
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Tested = TypeVar("Tested", bound=Callable | type)
_PORTS = range(20_000, 32_768)
"""Below those that Linux gives to outgoing connections, which could take one before its server."""
_given: set[int] = set()


def slow(tested: Tested) -> Tested:
    """Leave a test, or a class of tests, out of the quick suite: it takes over 0.3 s."""
    tested.is_slow = True
    return tested


def campaign(usual: int) -> int:
    """Return how many random cases to try: the usual number, fewer in a hurry, more in a soak.

    `TEST_CASES` multiplies the usual number; `./run test quick` and `./run test soak` set it.
    """
    return max(1, round(usual * float(os.environ.get("TEST_CASES") or 1)))


def missing(piece: str) -> Exception:
    """Say loudly that a piece is not to be had: a skip on a laptop, a failure under ``CI=true``."""
    message = f"SKIPPED, because {piece} is not to be had on this machine"
    if os.environ.get("CI") == "true":
        return AssertionError(f"{piece} is not to be had, and under CI nothing may be skipped")
    return unittest.SkipTest(message)


def untraced() -> None:
    """Turn off asyncio's debug mode but in a soak; `IsolatedAsyncioTestCase` turns it on.

    It keeps the stack of each future, for a third of the time of a test of the service.
    """
    if campaign(100) <= 100:
        asyncio.get_running_loop().set_debug(False)


def free_port() -> int:
    """Find a port of the loopback interface that nobody listens on, each time another."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def wait_until(condition: Callable[[], T], seconds: float = 30.0, what: str = "") -> T:
    """Wait for a condition to hold, and give its value; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what or condition}")
        time.sleep(0.02)
    return value
