"""What a transform is, and what it is asked.

A transform decides what is sent for the folder of one modality. It reads no data for that: it
returns items, each of which is a file (`FileItem`) or makes its bytes while it is sent
(`StreamedItem`). All of them are sent in the same way: shared out to shards, within the limits of
memory and bandwidth, recorded and verified one by one, and those that have arrived are not made
again when the job is resumed. So data that are large are cut into many items, such as one for each
chunk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.upload.plan.items import Item
from aind_data_transfer_service.upload.source.scan import Scan


@dataclass(frozen=True)
class TransformRequest:
    """What a transform is asked about."""

    modality: str
    """The abbreviation of the modality."""
    scan: Scan
    """The files of its folder: their names, sizes and times."""
    extra_configs: Mapping[str, Any] | str | None = None
    """What the request says about this modality: an object, or the path of a file."""
    settings: Any = None
    """The transform's own settings, of the class that it declares."""


@dataclass(frozen=True)
class Planned:
    """What a transform makes of a folder."""

    items: Sequence[Item]
    """What is sent. Keys begin with the folder's name (`scan.tree.folder`) and `/`."""
    warnings: tuple[str, ...] = ()
    """For the person who submitted the job, a sentence each."""
    notes: str = ""
    """What was done to the data, for `processing.json`; empty if nothing was."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """How it was done, for `processing.json`: format, method, versions."""


class Transform(Protocol):
    """Decides what is sent for the folder of a modality."""

    name: ClassVar[str]
    label: ClassVar[str]
    """How the data are sent, after the name of a folder: `as one zip`."""
    modalities: ClassVar[frozenset[str]]
    """The abbreviations of the modalities that it is for. Of each modality, at most one installed
    transform may be. Without any, it is not chosen for itself."""
    takes_extra_configs: ClassVar[bool]
    """Whether `extra_configs` of a request have an effect on it."""
    settings: ClassVar[type[EnvironmentSettings] | None]

    @classmethod
    def plan(cls, request: TransformRequest) -> Planned | None:
        """Decide what is sent; None if these data are not for this transform.

        Raises
        ------
        SourceError
            If the data cannot be sent as the request wants it.
        RequestError
            If `extra_configs` are wrong.
        """
        ...
