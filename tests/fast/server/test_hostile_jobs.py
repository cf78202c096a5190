"""Scripts that spoil their own files, on a real service that runs honest ones beside them."""

import json
import unittest

import httpx

from tests.support import slow, wait_until
from tests.support.service import Service

HONEST = "echo said; exit 0"
HOSTILE = {
    "pipe": 'rm "$UPLOAD_EVENTS_FILE"; mkfifo "$UPLOAD_EVENTS_FILE"',
    "pipes": "for file in *.log *.json events.jsonl lock; do rm -f $file; mkfifo $file; done",
    "endless": "rm -f stdout.log; ln -s /dev/zero stdout.log",
    "link": 'ln -sf /etc/passwd "$UPLOAD_EVENTS_FILE"',
    "loop": 'ln -sf "$UPLOAD_EVENTS_FILE" "$UPLOAD_EVENTS_FILE"',
    "folder": "rm -f lock stderr.log; mkdir lock stderr.log exit.json",
    "gone": 'rm -r "$PWD"',
    "file": 'cd .. && rm -r "$OLDPWD" && touch "$OLDPWD"',
    "huge": 'truncate -s 2T "$UPLOAD_EVENTS_FILE"',
    "keeper": "setsid flock lock sleep 20 > /dev/null 2>&1 &",
    "no kind": """echo '{"kind": [], "step": {}, "message": 3}' > "$UPLOAD_EVENTS_FILE" """,
    "digits": (
        f"""echo '{{"kind": "progress", "step": "x", "figures": {{"bytes_done": {"9" * 401}}}}}' """
        '> "$UPLOAD_EVENTS_FILE"; exit 3'
    ),
    "half": ("""echo '{"kind": "fail", "step": "\\ud800", "message": "\\udfff"}' >events.jsonl"""),
}


class HostileJobsTest(unittest.TestCase):
    """What one job does to its files is no other job's affair."""

    @slow
    def test_honest_jobs_end_rightly_and_pages_answer(self) -> None:
        with Service(local_executor_slots=1) as service:
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
