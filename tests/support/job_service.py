"""A manager of jobs as a process of its own, that a test may kill.

::

    python -m tests.support.job_service DATA_DIR

It says `ready`. Then it reads lines of JSON, each a list of requests to submit, and answers each
with the ids of the jobs, once they are handed over. A request is a list of three texts:
`[upload_job_settings, hpc_settings, script]`.
"""

import asyncio
import json
import sys
from pathlib import Path

from aind_data_transfer_service.jobs.manager import HpcJobRequest, JobManager
from aind_data_transfer_service.settings.service import ServiceSettings


async def serve(data_dir: Path) -> None:
    """Submit what is asked for, until there is no more."""
    settings = ServiceSettings(
        data_dir=data_dir,
        lab_timezone="UTC",
        monitor_interval=0.02,
        local_executor_slots=1,
        allow_custom_scripts=True,
    )
    manager = JobManager(settings)
    await manager.start()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        submission = await manager.submit_hpc([HpcJobRequest(*one) for one in json.loads(line)])
        answer = [one["job_id"] for one in submission.responses] or submission.errors
        print(json.dumps(answer), flush=True)
    await manager.stop()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
