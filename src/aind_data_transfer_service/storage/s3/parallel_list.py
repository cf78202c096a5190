"""A long list of objects, asked for in several pieces at once.

A server gives a thousand keys in an answer, and the next thousand to whom has seen those: a million
keys are a thousand answers, one after the other. Whoever knows which keys to expect has the list
begin behind some of them, and waits for many answers at once.

Facts: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html (`start-after`)
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aind_data_transfer_service.concurrency.daemon_thread import Pool
from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.storage.s3.retry import Fault, Kind

Pages = Iterator[list[StoredObject]]
APART = 900
"""So many expected keys lie between two cuts: with the odd one besides, a page of S3."""
_AT_ONCE = 8
"""How many answers are waited for at once."""
_EMPTY_PAGES = 1000
"""So many empty pages in a row may come: S3 skips what was deleted, some at a time."""


class PageGuard:
    """Fails if a list makes no progress.

    A server, or a cache before it, that does not follow the marker of a page would list for ever.
    Keys need not grow: not every server has S3's order of them.
    """

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}
        self._markers: set[tuple[str, ...]] = set()
        self._number = self._empty = 0

    def check(self, identity: int | None, following: Mapping[str, str] | None) -> None:
        """Take the next page.

        Parameters
        ----------
        identity : int | None
            A number that equal pages share; None for an empty page.
        following : Mapping[str, str] | None
            The markers that ask for the page after it; None for the last page.

        Raises
        ------
        Fault
            If the page or its markers came before, or too many pages were empty.
        """
        self._number += 1
        self._empty = 0 if identity is not None else self._empty + 1
        first = self._number if identity is None else self._pages.setdefault(identity, self._number)
        if first != self._number:
            raise _endless(f"page {self._number} is page {first} once more")
        if following is None:
            return
        markers = tuple(following.values())
        if markers in self._markers:
            raise _endless(f"page {self._number} has the marker of an earlier page")
        if self._empty > _EMPTY_PAGES:
            raise _endless(f"{self._empty:,} pages in a row are empty")
        self._markers.add(markers)


def _endless(words: str) -> Fault:
    """Say why a list would never end."""
    return Fault(
        Kind.FINAL,
        f"the list does not end: {words}; the server, or a cache before it, ignores where the "
        "next page begins",
    )


def once_each(
    stored: Iterable[StoredObject], conflicts: list[StoredObject]
) -> Iterator[StoredObject]:
    """Give each object of a list once, however often it is listed.

    Parameters
    ----------
    stored : Iterable[StoredObject]
        The list; all its keys are held in memory.
    conflicts : list[StoredObject]
        Takes objects that were listed before with another size or ETag.
    """
    seen: dict[str, StoredObject] = {}
    for item in stored:
        first = seen.setdefault(item.key, item)
        if first is item:
            yield item
        elif not item.is_like(first):
            conflicts.append(item)


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
    waiting: deque[Any] = deque()
    with Pool(_AT_ONCE, "listing") as pool:
        for end in ends:
            while len(waiting) < _AT_ONCE and (start := next(starts, None)) is not None:
                waiting.append((start, pool.submit(_begin, pages(start))))
            start, begun = waiting.popleft()
            first, rest = begun.result()
            if first and first[0].key <= start:  # it does not know where to begin
                yield from _between(pages(""), start, None)
                return
            yield from _between(_chained(first, rest), start, end)


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
