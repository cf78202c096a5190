"""What the upload and the commands beside it share: how they end, and the last word."""

import logging
import os
import sys
from collections.abc import Callable

from pydantic import ValidationError

from aind_data_transfer_service.errors import ExitCode, UploadError
from aind_data_transfer_service.logging_config import configured_from_environment
from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.settings.base import explain_settings
from aind_data_transfer_service.settings.upload import UploadSettings

logger = logging.getLogger(__name__)


def as_program(work: Callable[[UploadSettings], None]) -> int:
    """Do something with the settings of the environment, and give the process's exit code.

    The last line of the standard error is the reason where it failed.

    Parameters
    ----------
    work : Callable
        What is done; it raises what stops it.
    """
    configured_from_environment()
    try:
        work(UploadSettings())
    except UploadError as error:
        return _fail(str(error), error.exit_code)
    except ValidationError as error:
        return _fail(f"a setting is wrong: {'; '.join(explain_settings(error))}", ExitCode.REQUEST)
    except KeyboardInterrupt:
        return _fail("cancelled", ExitCode.CANCELLED)
    except BrokenPipeError:  # whoever read the output has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.UNEXPECTED
    except Exception as error:
        logger.exception("this was not foreseen")
        return _fail(f"unexpected {type(error).__name__}: {error}", ExitCode.UNEXPECTED)
    return ExitCode.DONE


def _fail(reason: str, code: ExitCode) -> int:
    """Print the reason on one line."""
    print(redact(" ".join(reason.split())), file=sys.stderr)
    return int(code)
