"""A limit on what is remembered of jobs, so that memory does not grow with every job ever sent."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
_MOST = 50_000


def remember(memory: dict[K, V], key: K, value: V) -> None:
    """Remember a value as the newest one, and drop the oldest of too many."""
    memory.pop(key, None)
    memory[key] = value
    drop_oldest(memory)


def drop_oldest(memory: dict[K, V]) -> None:
    """Drop the oldest values of more than 50,000."""
    while len(memory) > _MOST:
        del memory[next(iter(memory))]
