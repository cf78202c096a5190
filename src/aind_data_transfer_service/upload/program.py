"""The data transfer job as a program: its request, its exit code, its last words.

``python -m aind_data_transfer_service.upload --json-args '{…}'`` runs one job. It tells what it
does by events (`upload.events`), ends with an `ExitCode`, and the last line of its standard error
is the reason where it failed.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

from pydantic import ValidationError

from aind_data_transfer_service.errors import (
    CancelledError,
    ExitCode,
    UploadError,
)
from aind_data_transfer_service.settings.afterwards import AfterwardsSettings
from aind_data_transfer_service.settings.environment import explain_settings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.events import Events, Kind
from aind_data_transfer_service.upload.job import UploadJob
from aind_data_transfer_service.upload.request import (
    find_request,
    read_arguments,
    read_request,
)
from aind_data_transfer_service.upload.shell import start_log

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one job as a program and give its exit code."""
    arguments = read_arguments(argv)
    start_log()
    events: Events | None = None
    try:
        settings = UploadSettings()
        events = _open_events(settings)
        with _Signals() as signals:
            settings = _with_parameters(settings, events)
            config = read_request(find_request(arguments, settings), settings)
            if arguments.dry_run:
                config = config.model_copy(update={"dry_run": True})
            logging.getLogger("aind_data_transfer_service").setLevel(config.log_level)
            UploadJob(
                config,
                settings,
                events,
                on_proven=signals.ignore,
                plan_as_json=arguments.json,
                afterwards=AfterwardsSettings(),
            ).run()
            events.close()  # while nothing can stop the job any more
        return ExitCode.DONE
    except _Cancelled:
        return _fail(events, "cancelled", CancelledError.exit_code)
    except UploadError as error:
        return _fail(events, " ".join(str(error).split()), error.exit_code)
    except ValidationError as error:
        reason = "; ".join(explain_settings(error))
        return _fail(events, f"a setting is wrong: {reason}", ExitCode.REQUEST)
    except BaseException as error:  # whatever it is, it is told
        logger.exception("the job failed in a way that was not foreseen")
        words = " ".join(str(error).split())
        return _fail(events, f"unexpected {type(error).__name__}: {words}", ExitCode.UNEXPECTED)
    finally:
        if events is not None:
            events.close()
        _let_go(sys.stdout, sys.stderr)


class _Cancelled(BaseException):
    """The job was told to stop: nothing on the way may take this for an error of its own."""


class _Signals:
    """Turns SIGTERM and SIGINT into `_Cancelled`, once; a second one has no effect."""

    _NUMBERS = (signal.SIGTERM, signal.SIGINT)

    def __enter__(self) -> "_Signals":
        self._before = [signal.signal(number, self._cancel) for number in self._NUMBERS]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in zip(self._NUMBERS, self._before):
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Let nothing stop the job any more."""
        for number in self._NUMBERS:
            signal.signal(number, signal.SIG_IGN)

    def _cancel(self, *_: object) -> None:
        self.ignore()
        raise _Cancelled


def _open_events(settings: UploadSettings) -> Events:
    """Open the file of events, and have it brought to the service where that is wanted."""
    file, token = settings.upload_events_file, settings.upload_callback_token
    events = Events(file, settings.job_id)
    if file and token and settings.upload_callback_url:
        from aind_data_transfer_service.upload.callback import Callback

        events.attach(Callback(settings.upload_callback_url, token.get_secret_value(), file))
    return events


def _with_parameters(settings: UploadSettings, events: Events) -> UploadSettings:
    """Add what the store of parameters says, where one is named."""
    if not settings.aws_param_store_name:
        return settings
    from aind_data_transfer_service.upload.parameters import add_parameters

    return add_parameters(settings, events.warn)


def _fail(events: Events | None, reason: str, code: ExitCode) -> int:
    """Tell why the job failed, as its last event and its last line."""
    if events is not None:
        events.emit(Kind.FAIL, reason, exit_code=int(code))
    with contextlib.suppress(OSError):  # a full disk beneath the log: the exit code still tells
        print(reason, file=sys.stderr, flush=True)
    return int(code)


def _let_go(*streams: TextIO) -> None:
    """Give up what a full disk does not take: else it would be Python's end, and not ours."""
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
