"""Scripts that spoil their own files, on a real service that runs honest ones beside them."""

import json
import unittest

import httpx

from tests.support import slow, wait_until
from tests.support.hostile_scripts import HOSTILE
from tests.support.service import Service

HONEST = "echo said; exit 0"


class HostileJobsTest(unittest.TestCase):
    """What one job does to its files is no other job's affair."""

    @slow
    def test_honest_jobs_end_rightly_and_pages_answer(self) -> None:
        with Service(local_executor_slots=1, allow_custom_scripts=True) as service:
            client = httpx.Client(base_url=service.url, timeout=5)
            self.addCleanup(client.close)
            names = [*HOSTILE, *(f"honest {number}" for number in range(4))]
            jobs = [
                {
                    "upload_job_settings": "{}",
                    "hpc_settings": json.dumps({"name": name}),
                    "script": f"#!/bin/sh\n{HOSTILE.get(name, HONEST)}\n",
                }
                for name in names
            ]
            answer = client.post("/api/submit_hpc_jobs", json={"jobs": jobs})
            self.assertEqual(200, answer.status_code, answer.text)
            ids = [one["job_id"] for one in answer.json()["data"]["responses"]]

            def have_ended() -> bool:
                states = [service.manager.store.get(job_id).state.value for job_id in ids]
                return not {"SUBMITTED", "PENDING", "RUNNING"} & set(states)

            try:
                wait_until(have_ended, 60, "the ends of all jobs")
            except AssertionError:
                jobs = map(service.manager.store.get, ids)
                self.fail([(job.name, job.state.value, job.reason) for job in jobs])
            for name, job_id in zip(names, ids):
                with self.subTest(name):
                    job = service.manager.store.get(job_id)
                    if name not in HOSTILE:
                        self.assertEqual("COMPLETED", job.state, job.reason)
                    pages = [f"/jobs/{job_id}", f"/api/jobs/{job_id}"]
                    pages += [
                        f"/api/jobs/{job_id}/log?stream={one}" for one in ("stdout", "stderr")
                    ]
                    for page in pages:
                        self.assertIn(client.get(page).status_code, (200, 502, 503), page)
            self.assertEqual(200, client.get("/readyz").status_code)
            self.assertEqual(200, client.get("/jobs").status_code)
