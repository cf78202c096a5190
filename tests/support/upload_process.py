"""One job in a process of its own, with other intervals of its lease.

``python -m tests.support.upload_process '{"ttl": 1.5, "interval": 0.2}'`` is otherwise the program:
it takes the request and the settings from the environment, ends on signals, prints why it failed
and returns an exit code. `fork_job` does the same without the time that a start of Python takes.
"""

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Mapping
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.upload.cli import upload
from aind_data_transfer_service.upload.job.job import UploadJob
from aind_data_transfer_service.upload.resume.lease import Timing

_lock = threading.Lock()
"""To start a process looks at all others, and each may be looked at by one thread at a time."""


def main(timing: str) -> int:
    """Run the job and return its exit code."""
    job = partial(UploadJob, timing=Timing(**json.loads(timing)))
    with patch.object(upload, "UploadJob", job):
        return upload.main([])


def fork_job(environment: Mapping[str, str], timing: str, errors: Path) -> BaseProcess:
    """Start the job in a fork of a process that has loaded its modules.

    Parameters
    ----------
    environment : Mapping[str, str]
        All of its environment.
    timing : str
        The intervals of its lease, in JSON.
    errors : Path
        Takes its standard error.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "botocore.session"])
    process = context.Process(target=_run, args=(dict(environment), timing, errors))
    with _lock:
        process.start()
    return process


def await_job(process: BaseProcess, seconds: float) -> int | None:
    """Wait for the end of a job and return its exit code; None if it goes on for longer."""
    if not wait([process.sentinel], seconds):
        return None
    with _lock:
        process.join()
        return process.exitcode


def _run(environment: dict[str, str], timing: str, errors: Path) -> None:
    """Be the job."""
    os.environ.clear()
    os.environ.update(environment)
    with open(errors, "wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    os._exit(main(timing))


if __name__ == "__main__":
    os._exit(main(sys.argv[1]))
