"""What is tried again, how often, and when it is given up.

Deciding is pure: `judge` says of what kind a refusal is, `Patience` how long to wait. A fault that
passes by itself is waited for with exponential backoff and full jitter (a random time between
nothing and the present bound: Amazon's Builders' Library, "Timeouts, retries, and backoff with
jitter"), for so many seconds from the first one on; then it is given up, with that first one named.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from aind_data_transfer_service.errors import CancelledError

T = TypeVar("T")

_FIRST_BOUND = 0.2
_LAST_BOUND = 20.0
_SETTLED_AFTER = 20.0
"""Seconds for which a key that the store does not know is tried again: a new key is not known at
once everywhere."""
_MOST_DAMAGED = 3
_MOST_REFRESHED = 3
_TOLD_EVERY = 10.0

_PASSING = frozenset(
    "SlowDown ServiceUnavailable InternalError RequestTimeout IncompleteBody OperationAborted "
    "ConditionalRequestConflict TemporaryRedirect Throttling ThrottlingException RequestThrottled "
    "RequestLimitExceeded BandwidthLimitExceeded TooManyRequests".split()
)
_EXPIRED = frozenset("ExpiredToken ExpiredTokenException TokenRefreshRequired".split())
_SKEWED = frozenset(("RequestTimeTooSkewed", "RequestInTheFuture", "RequestExpired"))
_DAMAGED = frozenset(
    "BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch".split()
)


class Kind(StrEnum):
    """What helps against a fault."""

    PASSING = "passing"
    """To wait."""
    EXPIRED = "expired"
    """Other credentials."""
    SKEWED = "skewed"
    """To sign by the server's clock."""
    UNKNOWN_KEY = "unknown key"
    """To wait a little, or other credentials: the keys may be very new, or replaced by others."""
    MOVED = "moved"
    """To ask in the region that the server named."""
    DAMAGED = "damaged"
    """To send the same bytes again, a few times: what arrived was not what was sent."""
    FINAL = "final"
    """Nothing."""


_MENDED = (Kind.EXPIRED, Kind.SKEWED, Kind.MOVED)


class Fault(Exception):
    """A request failed."""

    region = ""
    """Where the bucket is, if the server named it."""
    retry_after = 0.0
    """How many seconds the server asks to wait before the next attempt."""

    def __init__(self, kind: Kind, words: str, status: int = 0, code: str = "", date: str = ""):
        """Say how, what the server called it, and what its clock showed."""
        super().__init__(words)
        self.kind, self.words, self.status, self.code = kind, words, status, code
        self.date = date


def judge(status: int, code: str) -> Kind:
    """Tell of what kind a refusal is, by its HTTP status and S3's own code of it.

    The codes are those of Amazon's list "Error responses" in the API reference of S3.
    """
    if code in _SKEWED:
        return Kind.SKEWED
    if code in _EXPIRED:
        return Kind.EXPIRED
    if code == "InvalidAccessKeyId":
        return Kind.UNKNOWN_KEY
    if code in _DAMAGED:
        return Kind.DAMAGED
    if code in _PASSING or status in (408, 429) or (status >= 500 and status not in (501, 505)):
        return Kind.PASSING
    if status == 400 and not code:  # no S3 server's word: the request itself came in damaged
        return Kind.DAMAGED
    return Kind.FINAL


class Repeats:
    """Tells of what was tried again: one line for all of it, now and then.

    Parameters
    ----------
    tell : Callable
        Takes the line.
    clock : Callable
        Seconds that only grow.
    """

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._tell, self._clock = tell, clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last = -_TOLD_EVERY

    def note(self, words: str) -> None:
        """Count one repetition, and tell where it is time to."""
        with self._lock:
            self._counts[words] += 1
            if self._clock() - self._last < _TOLD_EVERY:
                return
        self.flush()

    def flush(self) -> None:
        """Tell what has not been told yet."""
        with self._lock:
            counts, self._counts = self._counts, Counter()
            self._last = self._clock()
        if counts:
            causes = "; ".join(f"{words} ({number:,})" for words, number in counts.most_common(3))
            total = sum(counts.values())
            requests = "a request is" if total == 1 else f"{total:,} requests are"
            self._tell(f"{requests} tried again: {causes}")


@dataclass(frozen=True)
class Patience:
    """How long faults are borne."""

    seconds: float
    """From the first fault of a request until it is given up."""
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform
    wait: Callable[[float, threading.Event | None], bool] | None = None
    """Waits for so long or until the event; tells whether it was the event."""

    def run(
        self,
        attempt: Callable[[], T],
        repeats: Repeats,
        mend: Callable[[Fault], bool] = lambda fault: False,
        halt: threading.Event | None = None,
    ) -> T:
        """Try something until it is done.

        Parameters
        ----------
        attempt : Callable
            What to do; raises `Fault` where it fails.
        repeats : Repeats
            Is told of each repetition.
        mend : Callable
            Gets new credentials, sets the clock or changes the region. Returns whether that changed
            anything; raises `Fault` if it may succeed later.
        halt : threading.Event | None
            Ends the waiting.

        Raises
        ------
        Fault
            The last one, in words that name the first.
        CancelledError
            Where `halt` was set.
        """
        try:
            return attempt()
        except Fault as error:
            fault = first = error
        since, seen = self.clock(), Counter[Kind]()
        while True:
            seen[fault.kind] += 1
            left = self.seconds - (self.clock() - since)
            try:
                goes_on = self._may_go_on(fault, seen, left, mend)
            except Fault as error:  # what would help cannot be done now: it is tried again as well
                seen[fault.kind] -= 1
                seen[error.kind] += 1
                first = error if first is fault else first
                fault, goes_on = error, True
            if not goes_on:
                raise _given_up(fault, first, seen, self.clock() - since) from fault
            repeats.note(fault.words)
            pause = min(left, fault.retry_after + self.pause(sum(seen.values())))
            if fault.kind in _MENDED:
                pause = min(pause, 1.0)
            if (self.wait or _wait)(pause, halt):
                raise CancelledError("the transfer was stopped") from fault
            try:
                return attempt()
            except Fault as error:
                fault = error

    def pause(self, failures: int) -> float:
        """Choose how long to wait after so many failures."""
        return self.jitter(0.0, min(_LAST_BOUND, _FIRST_BOUND * 2.0 ** min(failures - 1, 10)))

    def _may_go_on(
        self, fault: Fault, seen: Counter[Kind], left: float, mend: Callable[[Fault], bool]
    ) -> bool:
        """Tell whether another attempt has any prospect."""
        if left <= 0 or fault.kind is Kind.FINAL:
            return False
        if fault.kind is Kind.DAMAGED:
            return seen[Kind.DAMAGED] < _MOST_DAMAGED
        if fault.kind is Kind.UNKNOWN_KEY:
            return mend(fault) or self.seconds - left < _SETTLED_AFTER
        if fault.kind in _MENDED:
            return mend(fault) and seen[fault.kind] <= _MOST_REFRESHED
        return True


def _given_up(fault: Fault, first: Fault, seen: Counter[Kind], seconds: float) -> Fault:
    """Say why it is given up."""
    attempts = sum(seen.values())
    words = first.words
    if fault.kind is Kind.DAMAGED:
        words = (
            f"what arrived was not what was sent, {seen[Kind.DAMAGED]} times: the network or the "
            f"server damages data ({fault.words})"
        )
    elif attempts > 1:
        last = "" if fault.words == first.words else f"; last: {fault.words}"
        words = f"{first.words}; given up after {attempts} attempts in {seconds:.0f} s{last}"
    return Fault(fault.kind, words, fault.status, fault.code)


def _wait(seconds: float, halt: threading.Event | None) -> bool:
    """Wait, at most until `halt` is set."""
    return (halt or threading.Event()).wait(seconds)
