"""Shards: one asset's plan cut into parts, each sent by a job of its own.

Every shard's job plans the whole asset, cuts the plan the same way as the others do, and sends its
own part. What it sent it writes down beside the asset, in `.transfer/<asset>/shards/3-of-8.jsonl`.
The last job finds these records, sends what is still missing, and verifies the whole.
"""

import heapq
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from aind_data_transfer_service.upload.plan.items import Item

FILE_COST = 1024**2
"""Sending a file costs a request too, about as much time as so many bytes."""


@dataclass(frozen=True)
class Shard:
    """Which part of an asset a job sends."""

    number: int
    """From one on."""
    of: int

    def __str__(self) -> str:
        """Name it as people do."""
        return f"shard {self.number} of {self.of}"

    @property
    def name(self) -> str:
        """Name it as part of a key or a path."""
        return f"{self.number}-of-{self.of}"


def cost(item: Item) -> int:
    """Tell how much work an item is, in bytes."""
    requests = item.file_count or 1  # a file that is sent as several objects counts in one of them
    return item.source_size + FILE_COST * requests


def cut(items: Sequence[Item], shards: int) -> list["array[int]"]:
    """Share items out: each is in exactly one shard, and all shards have about the same to do.

    The same items give the same shards. The largest come first, each to the shard that has the
    least to do, so no two shards differ by more than the largest item.

    Returns
    -------
    list[array]
        For each shard the places of its items, in their order.
    """
    costs = array("Q", map(cost, items))
    parts = [array("Q") for _ in range(shards)]
    loads = [(0, number) for number in range(shards)]
    for place in sorted(range(len(costs)), key=costs.__getitem__, reverse=True):
        load, number = heapq.heappop(loads)
        parts[number].append(place)
        heapq.heappush(loads, (load + costs[place], number))
    return [array("Q", sorted(part)) for part in parts]


def worth(size: int, most: int, least_bytes: int | None) -> int:
    """Tell into how many shards an asset is cut.

    Parameters
    ----------
    size : int
        How many bytes it has.
    most : int
        How many shards there may be.
    least_bytes : int | None
        A further shard begins after so many bytes; None where the size does not matter.
    """
    if not least_bytes:
        return most
    return max(1, min(most, -(-size // least_bytes)))


def places_of(items: Sequence[Item], shard: Shard, least_bytes: int | None = None) -> "array[int]":
    """Tell the places of one shard's items in a plan; none where fewer shards are enough."""
    shards = worth(sum(item.source_size for item in items), shard.of, least_bytes)
    return cut(items, shards)[shard.number - 1] if shard.number <= shards else array("Q")
