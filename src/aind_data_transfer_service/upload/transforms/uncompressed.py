"""A modality's data as they are."""

from aind_data_transfer_service.upload.plan.items import FileItems
from aind_data_transfer_service.upload.transforms.base import Planned, TransformRequest


class Uncompressed:
    """Sends each file as it is."""

    name, label = "uncompressed", "as it is"
    modalities: frozenset[str] = frozenset()
    takes_extra_configs = False
    settings = None

    @classmethod
    def plan(cls, request: TransformRequest) -> Planned | None:
        """Plan an item for each file."""
        return Planned(FileItems(request.scan.files))
