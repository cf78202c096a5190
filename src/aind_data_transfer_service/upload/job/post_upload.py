"""The last steps of a job: those who wait for a verified asset hear of it.

The asset is whole and published by then. So nothing here makes the job fail: what goes wrong is
told, recorded beside the job, and can be tried again from its page.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import PostUploadError
from aind_data_transfer_service.post_upload.registration import post_registration
from aind_data_transfer_service.post_upload.states import (
    NO_BUCKET,
    NO_CODE_OCEAN,
    Analysis,
    AnalysisState,
    Registration,
    RegistrationState,
)
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.upload.job.events import Events, Step

logger = logging.getLogger(__name__)

TERMINATED = "the job had to end before this was done; try it again from the job's page"
_CHECK_SECONDS = 15.0
_GRACE = 1.0
"""Seconds that each of them has once the job has to end."""


class Afterwards:
    """What is to be done when an asset is whole.

    Parameters
    ----------
    settings : PostUploadSettings | None
        Whom to tell; None for nobody.
    config : BasicUploadJobConfigs
        What was asked for.
    location : str
        Where the asset lies.
    events : Events
        Hears how it goes.
    halt : Halt | None
        Once it is set, nothing more is waited for.
    """

    def __init__(
        self,
        settings: PostUploadSettings | None,
        config: BasicUploadJobConfigs,
        location: str,
        events: Events,
        halt: Halt | None = None,
    ):
        self._halt = halt or Halt()
        self._settings = settings or PostUploadSettings.model_construct()
        self._config, self._location, self._events = config, location, events
        self._is_in_bucket = urlsplit(location).scheme == "s3"

    def problems(self) -> Iterator[str]:
        """Tell, before anything is sent, why the analysis would not come about.

        The data go on all the same: they are in danger where they lie, and the analysis is not.
        """
        problem = self._problem() if self._wants_analysis else ""
        if problem:
            yield (
                f"the analysis will fail unless this is mended: {problem}; the upload goes on, and "
                "the analysis can be tried again from the job's page"
            )

    def run(self, record: Callable[[], bytes | None], since: datetime) -> None:
        """Tell everyone; never raises.

        Parameters
        ----------
        record : Callable
            Reads `metadata.nd.json` as it is stored.
        since : datetime
            When the transfer began.
        """
        if self._settings.registration_url:
            with self._events.during(Step.REGISTRATION, "metadata are registered") as figures:
                try:
                    posted = partial(self._registration, record)
                    registration = self._halt.bounded(posted, "registration", _GRACE)
                except TimeoutError:
                    registration = Registration(RegistrationState.FAILED, TERMINATED)
                self._tell(figures, registration.values(), "registration")
        if self._wants_analysis:
            with self._events.during(Step.ANALYSIS, "Code Ocean is told of the asset") as figures:
                try:
                    started = partial(self._analysis, since)
                    analysis = self._halt.bounded(started, "analysis", _GRACE)
                except TimeoutError:
                    analysis = Analysis(AnalysisState.FAILED, TERMINATED)
                self._tell(figures, analysis.values(), "analysis")

    @property
    def _wants_analysis(self) -> bool:
        """Whether Code Ocean is to hear of the asset."""
        if self._config.process_capsule_id:
            return True
        always = self._settings.codeocean_register == "always"
        return self._settings.code_ocean_enabled and always and self._is_in_bucket

    def _problem(self) -> str:
        """Say why the analysis cannot come about; empty where it can."""
        if not self._settings.code_ocean_enabled:
            return NO_CODE_OCEAN
        if not self._is_in_bucket:
            return NO_BUCKET
        from aind_data_transfer_service.post_upload import code_ocean  # takes a while

        seconds = min(_CHECK_SECONDS, self._settings.codeocean_timeout)
        try:
            with code_ocean.CodeOcean(self._settings, code_ocean.Deadline(seconds)) as asked:
                asked.check_access(self._config.process_capsule_id or "")
        except PostUploadError as error:
            return str(error)
        except Exception as error:  # the upload is not to suffer for it
            logger.exception("the check of Code Ocean failed in a way that was not foreseen")
            return f"the check itself failed ({type(error).__name__})"
        return ""

    def _registration(self, record: Callable[[], bytes | None]) -> Registration:
        """Post the record."""
        try:
            document = record()
            if document is None:
                return Registration(RegistrationState.FAILED, "metadata.nd.json is not to be found")
            return post_registration(self._settings, self._location, document)
        except Exception as error:  # the asset is whole, whatever this is
            logger.exception("the registration failed in a way that was not foreseen")
            return Registration(RegistrationState.FAILED, f"unexpected {type(error).__name__}")

    def _analysis(self, since: datetime) -> Analysis:
        """Have Code Ocean take the asset, and run what is to run."""
        if not self._settings.code_ocean_enabled:
            return Analysis(AnalysisState.FAILED, NO_CODE_OCEAN)
        if not self._is_in_bucket:
            return Analysis(AnalysisState.FAILED, NO_BUCKET)
        try:
            from aind_data_transfer_service.post_upload import code_ocean  # takes a while

            patience = code_ocean.Deadline(self._settings.codeocean_timeout)
            wanted = code_ocean.AnalysisRequest.from_config(self._config, self._location, since)
            with code_ocean.CodeOcean(self._settings, patience) as asked:
                return asked.run_analysis(wanted)
        except Exception as error:  # the asset is whole, whatever this is
            logger.exception("the analysis failed in a way that was not foreseen")
            return Analysis(AnalysisState.FAILED, f"unexpected {type(error).__name__}")

    def _tell(self, figures: dict[str, Any], values: dict[str, str], name: str) -> None:
        """Tell how it went."""
        state, reason = values[name], values[f"{name}_reason"]
        if state == "FAILED":
            self._events.warn(f"the {name} failed: {reason}")
        figures.update(values)
        figures["message"] = f"{name}: {state.lower()}" + (f" ({reason})" if reason else "")
