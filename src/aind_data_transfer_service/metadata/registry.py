"""The sources that a lab has, and who of them is asked for what."""

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from aind_data_transfer_service.concurrency.deadline_gather import Inquiry, ask_all
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found, Source, SourceContext
from aind_data_transfer_service.plugins import METADATA_SOURCES
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.settings.common import CommonSettings
from aind_data_transfer_service.settings.metadata import ENRICHES, MetadataSettings, Policy
from aind_data_transfer_service.settings.plugin_settings import settings_of
from aind_data_transfer_service.settings.schema_generation import Generation

logger = logging.getLogger(__name__)

label_of = METADATA_SOURCES.label
_ATTEMPTS = 3


class Lab(AbstractContextManager["Lab", None]):
    """The sources that are configured.

    Parameters
    ----------
    sources : Mapping
        Them, by their names.
    choice : MetadataSettings
        Who is asked for what, and what it means that there is nothing.
    broken : Mapping
        Why a source that is configured cannot be asked, by its name.
    institution, default_funder : str | None
        The organization that collects the data, and the usual funder, if the settings name them.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        choice: MetadataSettings | None = None,
        broken: Mapping[str, str] | None = None,
        institution: str | None = None,
        default_funder: str | None = None,
    ):
        self._sources = dict(sources)
        self._choice = choice or MetadataSettings()
        self._broken = dict(broken or {})
        self.institution, self.default_funder = institution, default_funder

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        for source in self._sources.values():
            source.close()

    @property
    def seconds(self) -> float:
        """How long all questions of one job may take together."""
        return self._choice.time_limit

    @property
    def generation(self) -> Generation:
        """The generation of the schema that documents ought to follow."""
        return self._choice.generation

    def chosen(self, kind: str) -> tuple[str, ...]:
        """Name those who are asked for a document, in their order: all that are configured."""
        there = self._sources.keys() | self._broken.keys()
        order = self._choice.order_of(kind)
        return tuple(name for name in order if name in there and name != ENRICHES)

    def left_out(self, kind: str) -> tuple[str, ...]:
        """Name those who could be asked for a document and are not configured."""
        there = self._sources.keys() | self._broken.keys()
        return tuple(name for name in self._choice.order_of(kind) if name not in there)

    def policy(self, kind: str) -> Policy:
        """Tell what it means that there is no such document."""
        return self._choice.policy_of(kind, bool(self.chosen(kind)))

    def ask(self, name: str, kind: str, identifier: str = "") -> Any:
        """Ask one source for one thing.

        Raises
        ------
        MetadataError
            Where it does not answer.
        """
        if name in self._broken:
            raise MetadataError(self._broken[name])
        source = self._sources[name]
        if kind == "project_names":
            return source.project_names()
        return getattr(source, kind)(identifier)

    def inquire(self, wanted: Mapping[str, str], seconds: float | None = None) -> Inquiry:
        """Ask all who are chosen for some documents, at once.

        Parameters
        ----------
        wanted : Mapping
            What is asked for, and by which id.
        seconds : float | None
            How long that may take; by default what the settings say.
        """
        questions = {
            (kind, name): partial(self.ask, name, kind, identifier)
            for kind, identifier in wanted.items()
            for name in self.chosen(kind)
        }
        return ask_all(questions, self.seconds if seconds is None else seconds)

    @property
    def enriches(self) -> bool:
        """Whether what is found of procedures is to be completed, by TARS."""
        there = ENRICHES in self._sources or ENRICHES in self._broken
        return there and ENRICHES in self._choice.order_of("procedures")

    def enrich(self, procedures: Found) -> Found:
        """Complete procedures with what TARS knows.

        Raises
        ------
        MetadataError
            Where it cannot be asked.
        """
        if ENRICHES in self._broken:
            raise MetadataError(self._broken[ENRICHES])
        source: Any = self._sources[ENRICHES]
        found: Found = source.enrich(procedures)
        return found


def open_lab(
    settings: CommonSettings, timeout: float | None = None, attempts: int = _ATTEMPTS
) -> Lab:
    """Make the sources that are configured.

    Parameters
    ----------
    settings : CommonSettings
        What is known of them.
    timeout : float | None
        Seconds to wait for one answer; by default what the settings say.
    attempts : int
        How often a question is asked in all that comes to nothing.
    """
    seconds = min(timeout or settings.metadata_timeout, settings.metadata_timeout)
    lab = settings.metadata
    sources: dict[str, Source] = {}
    broken: dict[str, str] = {}
    for name, plugin in METADATA_SOURCES.plugins.items():
        own = settings_of(lab.systems, name)
        if own is not None and not own.is_set:
            continue
        try:
            source = plugin.create(SourceContext(settings, own, seconds, attempts))
        except MetadataError as error:
            broken[name] = str(error)
        except Exception as error:  # it may be the code of others
            logger.debug("the metadata source %s cannot be opened", name, exc_info=True)
            broken[name] = f"cannot be opened: {type(error).__name__}: {redact(str(error))}"
        else:
            if source is not None:
                sources[name] = source
    return Lab(sources, lab.choice, broken, settings.institution, settings.default_funder)
