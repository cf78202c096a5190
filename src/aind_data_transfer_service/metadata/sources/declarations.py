"""What the sources of this package declare, so that a source is imported only if it is configured.

What most of them need (a client of HTTP, the driver of a database) takes longer to import than a
small asset takes to be sent.
"""

from aind_data_transfer_service.metadata.base import Source, SourceBase, SourceContext
from aind_data_transfer_service.settings.metadata_sources import (
    LabtracksSettings,
    SharePointSettings,
    SlimsSettings,
    TarsSettings,
)


class MetadataServiceSource(SourceBase):
    """The lab's metadata service, at `METADATA_SERVICE_URL`."""

    name, label, rank = "service", "the metadata service", 10
    kinds = frozenset({"subject", "procedures", "instrument", "rig", "funding", "project_names"})

    @classmethod
    def create(cls, context: SourceContext) -> Source | None:
        """Make the source, if its address is set."""
        url = context.common.metadata_service_url
        if not url:
            return None
        from aind_data_transfer_service.metadata.sources.metadata_service import MetadataService

        return MetadataService(url, context.timeout, context.attempts)


class SharePoint(SourceBase):
    """The lists of surgeries on SharePoint."""

    name, label, rank = "sharepoint", "SharePoint", 20
    kinds = frozenset({"procedures"})
    settings = SharePointSettings

    @classmethod
    def create(cls, context: SourceContext) -> Source | None:
        """Make the source."""
        from aind_data_transfer_service.metadata.http import Patience
        from aind_data_transfer_service.metadata.sources.sharepoint.source import SharePointSource

        patience = Patience(seconds=context.timeout, attempts=context.attempts)
        return SharePointSource(context.settings, context.zone, patience)


class Labtracks(SourceBase):
    """LabTracks, the database of the colony."""

    name, label, rank = "labtracks", "LabTracks", 30
    kinds = frozenset({"subject", "procedures"})
    settings = LabtracksSettings

    @classmethod
    def create(cls, context: SourceContext) -> Source | None:
        """Make the source."""
        from aind_data_transfer_service.metadata.sources.labtracks.source import LabtracksSource

        return LabtracksSource(context.settings, context.timeout, context.attempts)


class Slims(SourceBase):
    """SLIMS, which keeps the documents of rigs and instruments."""

    name, label, rank = "slims", "SLIMS", 40
    kinds = frozenset({"instrument", "rig"})
    settings = SlimsSettings

    @classmethod
    def create(cls, context: SourceContext) -> Source | None:
        """Make the source."""
        from aind_data_transfer_service.metadata.http import Patience
        from aind_data_transfer_service.metadata.sources.slims import SlimsSource

        patience = Patience(seconds=context.timeout, attempts=context.attempts)
        return SlimsSource(context.settings, patience)


class Folder(SourceBase):
    """The folder of documents by id, `METADATA_FOLDER`."""

    name, label, rank = "folder", "METADATA_FOLDER", 90
    kinds = frozenset({"subject", "procedures", "instrument", "rig", "funding", "project_names"})

    @classmethod
    def create(cls, context: SourceContext) -> Source | None:
        """Make the source, if its folder is set."""
        folder = context.common.metadata.choice.folder
        if not folder:
            return None
        from aind_data_transfer_service.metadata.sources.folder import FolderSource

        return FolderSource(folder, context.attempts)


class Tars(SourceBase):
    """TARS, which completes the viruses in the procedures of other sources."""

    name, label, rank = "tars", "TARS", 100
    kinds = frozenset({"procedures"})
    settings = TarsSettings

    @classmethod
    def create(cls, context: SourceContext) -> Source | None:
        """Make the source."""
        from aind_data_transfer_service.metadata.http import Patience
        from aind_data_transfer_service.metadata.sources.tars import TarsSource

        patience = Patience(seconds=context.timeout, attempts=context.attempts)
        return TarsSource(context.settings, patience)
