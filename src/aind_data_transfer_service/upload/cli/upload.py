"""The data transfer job as a program: its request, its exit code, its last words.

``python -m aind_data_transfer_service.upload --json-args '{…}'`` runs one job. It tells what it
does by events (`upload.job.events`), ends with an `ExitCode`, and the last line of its standard
error is the reason where it failed.
"""

import argparse
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from functools import partial
from typing import TextIO

from pydantic import ValidationError

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.concurrency.daemon_thread import NO_THREAD
from aind_data_transfer_service.errors import ExitCode, UploadError
from aind_data_transfer_service.logging_config import configure_logging, configured_from_environment
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.settings.base import explain_settings
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.cli.cancel_request import is_cancelled
from aind_data_transfer_service.upload.cli.request import (
    find_request,
    read_arguments,
    read_request,
)
from aind_data_transfer_service.upload.cli.shutdown import Halted, Shutdown
from aind_data_transfer_service.upload.job.events import Events, Kind
from aind_data_transfer_service.upload.job.job import UploadJob

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job as a program and give its exit code."""
    arguments = read_arguments(argv)
    configured_from_environment()
    halt, ending = Halt(), _Ending()
    try:
        with Shutdown(halt, ending) as shutdown:
            try:
                _run(arguments, halt, ending, shutdown)
            finally:
                ending.close()
    except Halted as halted:  # before there was any work
        ending.overdue(halted.reason)
    except RuntimeError as error:
        ending.fail_of(error)
    return ending.code


def _run(arguments: argparse.Namespace, halt: Halt, ending: "_Ending", shutdown: Shutdown) -> None:
    """Run the job, and say how it ended."""
    try:
        try:
            _upload(arguments, halt, ending, shutdown)
        finally:
            shutdown.protect()
    except Halted as halted:
        ending.overdue(halted.reason)
    except UploadError as error:
        ending.fail(str(error), error.exit_code)
    except ValidationError as error:
        ending.fail(f"a setting is wrong: {'; '.join(explain_settings(error))}", ExitCode.REQUEST)
    except BaseException as error:  # whatever it is, it is told
        ending.fail_of(error)
    else:
        ending.done()


def _upload(
    arguments: argparse.Namespace, halt: Halt, ending: "_Ending", shutdown: Shutdown
) -> None:
    """Read the settings and the request, and upload."""
    settings = UploadSettings()
    shutdown.is_cancelled = partial(is_cancelled, settings)
    ending.events = events = _open_events(settings)
    settings = _with_parameters(settings, events)
    config = read_request(find_request(arguments, settings), settings, events.warn)
    if arguments.dry_run:
        config = config.model_copy(update={"dry_run": True})
    configure_logging(config.log_level, settings.log_format)

    def on_proven() -> None:
        shutdown.protect()
        ending.is_proven = True

    UploadJob(
        config,
        settings,
        events,
        on_publish=shutdown.protect,
        on_proven=on_proven,
        plan_as_json=arguments.json,
        afterwards=PostUploadSettings(),
        halt=halt,
    ).run()


class _Ending:
    """How the job ends: its last event, its last line and its exit code, said once.

    The main thread says it, or the watchdog of `Shutdown` if that thread hangs.
    """

    def __init__(self) -> None:
        self.events: Events | None = None
        self.is_proven = False
        """Whether the asset is verified and published: then nothing can fail any more."""
        self._lock = threading.Lock()
        self._code: int | None = None

    @property
    def code(self) -> int:
        """The exit code."""
        return int(ExitCode.UNEXPECTED) if self._code is None else self._code

    def done(self) -> None:
        """Note that the job ended well, which its last event says already."""
        self._decide(ExitCode.DONE)

    def fail(self, reason: str, code: ExitCode) -> None:
        """Say why the job failed, as its last event and its last line.

        Once the asset is published, it is a warning, and the job has done its work.
        """
        reason = redact(" ".join(reason.split()))
        if self.is_proven:
            if self._decide(ExitCode.DONE) and self.events is not None:
                self.events.warn(f"the asset is complete and verified, but then: {reason}")
            return
        if not self._decide(code):
            return
        if self.events is not None:
            self.events.emit(Kind.FAIL, reason, exit_code=int(code))
        with contextlib.suppress(OSError):  # a full disk beneath the log: the exit code still tells
            print(reason, file=sys.stderr, flush=True)

    def fail_of(self, error: BaseException) -> None:
        """Say that the job failed by an error that no step of it expects."""
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            self.fail(NO_THREAD, ExitCode.TRANSFER)
            return
        logger.error("the job failed in a way that was not foreseen", exc_info=error)
        self.fail(f"unexpected {type(error).__name__}: {error}", ExitCode.UNEXPECTED)

    def overdue(self, reason: UploadError) -> None:
        """End the job because it has to stop; what is proven stays so."""
        if self.is_proven:
            self.done()
        else:
            self.fail(str(reason), reason.exit_code)
        self.close()

    def close(self) -> None:
        """Have the events brought to where they belong, and give up what a full disk refuses."""
        if self.events is not None:
            self.events.close()
        _let_go(sys.stdout, sys.stderr)

    def _decide(self, code: ExitCode) -> bool:
        """Note the exit code, and return whether it is the first."""
        with self._lock:
            is_first = self._code is None
            if is_first:
                self._code = int(code)
        return is_first


def _open_events(settings: UploadSettings) -> Events:
    """Open the file of events, and have it brought to the service where that is wanted.

    A shard brings the end of its log only: the events that the service takes are those of the job.
    """
    file, token = settings.upload_events_file, settings.upload_callback_token
    events = Events(file, settings.job_id)
    url, shard = settings.upload_callback_url or settings.upload_cancel_url, settings.upload_shard
    is_wanted = shard or settings.upload_callback_url
    if file and token and url and is_wanted:
        from aind_data_transfer_service.upload.job.event_sender import Callback
        from aind_data_transfer_service.upload.job.log_tail import LogTail

        log_tail = LogTail(f"{url.rpartition('/')[0]}/log", shard=shard[0] if shard else 0)
        brought = None if shard else file
        try:
            events.attach(Callback(url, token.get_secret_value(), brought, log_tail=log_tail))
        except RuntimeError:
            events.warn(f"the service reads this job's progress from its file alone: {NO_THREAD}")
    return events


def _with_parameters(settings: UploadSettings, events: Events) -> UploadSettings:
    """Add what the store of parameters says, where one is named."""
    if not settings.aws_param_store_name:
        return settings
    from aind_data_transfer_service.settings.aws_parameters import add_parameters

    return add_parameters(settings, events.warn)


def _let_go(*streams: TextIO) -> None:
    """Give up what a full disk does not take: else it would be Python's end, and not ours."""
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
