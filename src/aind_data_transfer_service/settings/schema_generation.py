"""The generations of aind-data-schema that a lab can choose."""

from enum import StrEnum


class Generation(StrEnum):
    """Which generation of aind-data-schema the documents of an asset follow."""

    V0 = "0.34"
    V1 = "1"
    V2 = "2"
