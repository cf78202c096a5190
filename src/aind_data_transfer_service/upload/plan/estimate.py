"""What a plan will take, reckoned before anything is sent: requests, memory, and about how long."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from aind_data_transfer_service.upload.plan.plan import PART_SIZE, Plan, part_size, sizes_of

ASSUMED_RATE = 125_000_000
"""Bytes per second where no cap is set: a link of 1 Gbit/s."""
ASSUMED_LATENCY = 0.05
"""Seconds that one request takes on its way and at the store."""
_MOST_REQUESTS = 3500
"""Writing requests per second beneath one prefix, as S3 takes them."""
_PER_PAGE = 1000
"""Objects in one answer to a listing."""
_AROUND = 2
"""Requests that begin and complete an upload in parts."""


@dataclass(frozen=True)
class Estimate:
    """What is to be expected of a transfer; the time is a guess, and said to be one."""

    bytes: int
    large: int
    """Objects that travel in parts."""
    parts: int
    small: int
    """Objects that travel in one request each, documents included."""
    connections: int
    memory: int
    """How many bytes may be between source and destination at once."""
    bandwidth: float | None
    """The cap, where one is set."""

    @property
    def requests(self) -> int:
        """How many requests are sent: those that write, and the listing at the end."""
        objects = self.large + self.small
        return self.small + self.parts + _AROUND * self.large + -(-objects // _PER_PAGE)

    @property
    def time(self) -> timedelta:
        """About how long the transfer takes: by its bytes or by its requests, whichever is more."""
        per_second = min(_MOST_REQUESTS, self.connections / ASSUMED_LATENCY)
        by_bytes = self.bytes / (self.bandwidth or ASSUMED_RATE)
        return timedelta(seconds=round(max(by_bytes, self.requests / per_second)))

    def lines(self) -> Iterator[str]:
        """Write it for people."""
        yield (
            f"{self.large:,} objects in {self.parts:,} parts, the largest first; between them "
            f"{self.small:,} in one request each; about {self.requests:,} requests over "
            f"{self.connections} connections"
        )
        yield f"at most {self.memory // 1024**2:,} MiB in memory on their way"
        rate = self.bandwidth or ASSUMED_RATE
        why = "the cap that is set" if self.bandwidth else "assumed, for no cap is set"
        latency = f"{ASSUMED_LATENCY * 1000:.0f} ms a request (assumed)"
        yield f"estimate: {self.time} at {rate / 1e6:,.0f} MB/s ({why}) and {latency}"

    def as_json(self) -> dict[str, Any]:
        """Write it for programs."""
        return {
            **asdict(self),
            "requests": self.requests,
            "seconds": self.time.total_seconds(),
            "assumed_bytes_per_second": None if self.bandwidth else ASSUMED_RATE,
            "assumed_latency": ASSUMED_LATENCY,
        }


def estimate(plan: Plan, connections: int, memory: int, bandwidth: float | None) -> Estimate:
    """Reckon what a plan will take.

    Parameters
    ----------
    plan : Plan
        What is to be sent.
    connections : int
        How many files or parts are on their way at once.
    memory : int
        How many bytes may be between source and destination at once.
    bandwidth : float | None
        Bytes per second that may be sent; None without a cap.
    """
    large = parts = 0
    for size in sizes_of(plan.items):
        if size > PART_SIZE:
            large += 1
            parts += -(-size // part_size(size))
    small = len(plan.items) - large + len(plan.documents)
    return Estimate(plan.bytes_total, large, parts, small, connections, memory, bandwidth)
