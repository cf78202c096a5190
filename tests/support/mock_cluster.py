"""A service whose jobs run on a cluster that only pretends, which it asks by HTTP."""

import json
import threading
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aind_data_transfer_service.jobs.completion_evidence import Patience
from aind_data_transfer_service.jobs.manager import HpcJobRequest, JobManager
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import untraced
from tests.test_server.cluster import Cluster, Pace
from tests.test_server.slurmrestd import make_server

SCRIPT = "#!/bin/bash\necho hi\n"


class ClusterServiceTest(unittest.IsolatedAsyncioTestCase):
    """A service whose jobs run on a cluster that only pretends, in v0.0.36."""

    pace = Pace(pending=60)
    patience = Patience()
    callback_url: str | None = None

    async def asyncSetUp(self):
        untraced()
        folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.cluster = Cluster(self.pace)
        server = make_server("127.0.0.1", 0, self.cluster)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.port = server.server_port

    async def start(
        self, port: int = 0, monitor_interval: float | None = 0.05, **hpc_settings: Any
    ) -> JobManager:
        """Start a service."""
        hpc = HpcSettings(
            host="127.0.0.1",
            port=port or self.port,
            username="svc",
            token="t",
            current_working_directory="/hpc",
            logging_directory=hpc_settings.pop("logging_directory", str(self.folder)),
            timeout=10,
            **hpc_settings,
        )
        settings = ServiceSettings(
            data_dir=self.folder / "data",
            lab_timezone="UTC",
            destination=str(self.folder / "destination"),
            monitor_interval=monitor_interval,
            check_timeout=5,
            callback_url=self.callback_url,
            hpc=hpc,
        )
        manager = JobManager(settings, patience=self.patience)
        await manager.start()
        self.addAsyncCleanup(manager.stop)
        return manager

    def requests(self, count: int, **settings: dict) -> list[HpcJobRequest]:
        """Write requests; `job_7={…}` gives the seventh settings of its own."""
        return [
            HpcJobRequest(
                "{}",
                json.dumps({"name": f"job {number}"} | settings.get(f"job_{number}", {})),
                SCRIPT,
            )
            for number in range(1, count + 1)
        ]
