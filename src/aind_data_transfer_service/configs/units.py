"""Sizes and rates, as people write them."""

import math
import re

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?|)(bit|b|)\s*(?:/\s*s|ps)?", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmg]i?|)(b?)", re.IGNORECASE)


def bytes_per_second(text: str) -> float:
    """Read a rate: `200MB/s`, `1.5 Gbit/s`, `80 MiB/s`, or a bare number of bytes.

    Raises
    ------
    ValueError
        Where it is none.
    """
    match = _RATE.fullmatch(text.strip())
    rate = float(match[1]) * _UNITS[match[2].lower()] if match else 0.0
    if match and (match[3] == "b" or match[3].lower() == "bit"):
        rate /= 8
    if not 1 <= rate < math.inf:
        raise ValueError(f'"{text[:60]}" is no rate; write one such as 200MB/s or 1.5 Gbit/s')
    return rate


def byte_count(text: str) -> int:
    """Read a size: `256MiB`, `0.5 GB`, or a bare number of bytes.

    Raises
    ------
    ValueError
        Where it is none.
    """
    match = _SIZE.fullmatch(text.strip())
    count = float(match[1]) * _UNITS[match[2].lower()] if match else math.inf
    if count == math.inf:
        raise ValueError(f'"{text[:60]}" is no size; write one such as 256MiB')
    return int(count)
