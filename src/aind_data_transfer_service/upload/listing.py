"""A long list of objects, asked for in several pieces at once.

A server gives a thousand keys in an answer, and the next thousand to whom has seen those: a million
keys are a thousand answers, one after the other. Whoever knows which keys to expect has the list
begin behind some of them, and waits for many answers at once.

Facts: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html (`start-after`)
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from aind_data_transfer_service.upload.store import StoredObject

Pages = Iterator[list[StoredObject]]
APART = 900
"""So many expected keys lie between two cuts: with the odd one besides, a page of S3."""
_AT_ONCE = 8
"""How many answers are waited for at once."""


def in_pieces(pages: Callable[[str], Pages], cuts: Sequence[str]) -> Iterator[StoredObject]:
    """Give a list whose pieces are asked for at once.

    A server that does not give keys in the order of their UTF-8 bytes tells some of them twice or
    not at all: who misses one asks again without cuts.

    Parameters
    ----------
    pages : Callable
        Asks for the list from behind a key, or from its start, page by page.
    cuts : Sequence[str]
        Keys in their order, less than a page apart, best of all.
    """
    if not cuts:
        yield from itertools.chain.from_iterable(pages(""))
        return
    starts, ends = iter(("", *cuts)), iter((*cuts, None))
    waiting: deque = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for end in ends:
                while len(waiting) < _AT_ONCE and (start := next(starts, None)) is not None:
                    waiting.append((start, pool.submit(_begin, pages(start))))
                start, begun = waiting.popleft()
                first, rest = begun.result()
                if first and first[0].key <= start:  # it does not know where to begin
                    yield from _between(pages(""), start, None)
                    return
                yield from _between(_chained(first, rest), start, end)
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(pages: Pages) -> tuple[list[StoredObject], Pages]:
    """Get the first page."""
    return next(pages, []), pages


def _chained(first: list[StoredObject], rest: Pages) -> Pages:
    """Give the first page, and the others as they are asked for."""
    yield first
    yield from rest


def _between(pages: Pages, start: str, end: str | None) -> Iterator[StoredObject]:
    """Give what lies behind a key, up to another."""
    for page in pages:
        for item in page:
            if end is not None and item.key > end:
                return
            if item.key > start:
                yield item
