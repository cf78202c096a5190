"""Requests as clients of earlier releases send them; the folder `clients` has their bodies."""

import json
import os
import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx

from aind_data_transfer_service.server import create_app
from tests.support.application import ApplicationTest
from tests.support.mock_cluster import ClusterServiceTest
from tests.support.requests import HEADER, csv_row, upload_settings

BASIC = "/api/submit_basic_jobs"
HPC = "/api/submit_hpc_jobs"
BODIES = Path(__file__).with_name("clients")
BUCKETS = {
    "PRIVATE_BUCKET_NAME": "lab-data",
    "OPEN_DATA_BUCKET_NAME": "lab-open",
    "SCRATCH_BUCKET_NAME": "lab-tmp",
}
NO_NAME = {"REQUIRE_PROCESSOR_FULL_NAME": "false"}


def body(name: str) -> dict[str, Any]:
    """Read the body of a request."""
    found: dict[str, Any] = json.loads((BODIES / f"{name}.json").read_bytes())
    return found


def without(text: str, *names: str, **changes: Any) -> str:
    """Take fields out of a JSON object, and change others."""
    fields = {name: value for name, value in json.loads(text).items() if name not in names}
    return json.dumps(fields | changes)


class ClientsTest(ClusterServiceTest):
    """What a service on a cluster answers."""

    async def asyncSetUp(self) -> None:
        """Name the partition as the clients do."""
        await super().asyncSetUp()
        self.cluster.partitions = [{"name": "aind", "flags": ["default"]}]

    async def client(self, **variables: str) -> httpx.AsyncClient:
        """Start a service with these settings, and return a client of it."""
        with patch.dict(os.environ, BUCKETS | variables):
            manager = await self.start()
        transport = httpx.ASGITransport(create_app(manager.settings, manager))
        client = httpx.AsyncClient(transport=transport, base_url="http://transfer")
        self.addAsyncCleanup(client.aclose)
        return client

    async def accepted(self, client: httpx.AsyncClient, route: str, jobs: dict) -> dict[str, Any]:
        """Submit one job, and return its record."""
        response = await client.post(route, json=jobs)
        self.assertEqual(200, response.status_code, response.text)
        answer = response.json()
        self.assertEqual(("Submitted Jobs.", []), (answer["message"], answer["data"]["errors"]))
        [entry] = answer["data"]["responses"]
        [job] = self.cluster.jobs()
        self.assertIn(entry["job_id"], job.properties["comment"])
        found = await client.get(f"/api/jobs/{entry['job_id']}")
        return found.json()["data"]["job"]

    async def refused(self, client: httpx.AsyncClient, route: str, jobs: dict) -> list[str]:
        """Submit jobs that are refused, and return the errors."""
        response = await client.post(route, json=jobs)
        self.assertEqual(406, response.status_code, response.text)
        kind = "basic job" if route == BASIC else "job"
        message = f"There were errors parsing the {kind} configs"
        self.assertEqual(message, response.json()["message"])
        self.assertEqual([], response.json()["data"]["responses"])
        self.assertEqual([], self.cluster.jobs())
        errors: list[str] = response.json()["data"]["errors"]
        return errors

    async def test_the_sample_of_release_0_11(self) -> None:
        client = await self.client()
        job = await self.accepted(client, HPC, body("sample_of_release_0_11"))
        self.assertEqual("behavior_690165_2024-02-19_11-25-17", job["name"])
        self.assertIn("/lab-data/behavior_690165_", job["location"])
        self.assertEqual("behavior,behavior-videos", job["modalities"])
        self.assertEqual([], [text for text in job["warnings"] if "no effect" in text])

    async def test_what_such_a_sample_says_without_effect_is_a_warning(self) -> None:
        client = await self.client()
        [request] = body("sample_of_release_0_11")["jobs"]
        request["upload_job_settings"] = without(
            request["upload_job_settings"],
            temp_directory="/scratch",
            process_name="Compression",
            behavior_dir="/shared_drive/690165/Rig",
        )
        job = await self.accepted(client, HPC, {"jobs": [request]})
        warnings = "\n".join(job["warnings"])
        for name in ("temp_directory", "process_name", "behavior_dir"):
            self.assertRegex(warnings, rf'(?m)^job 1, {name}: ".*" (has no effect|is uploaded)')
        self.assertEqual("behavior,behavior-videos,behavior1", job["modalities"])

    async def test_what_would_steer_the_service_is_refused(self) -> None:
        client = await self.client()
        [request] = body("sample_of_release_0_11")["jobs"]
        request["upload_job_settings"] = without(
            request["upload_job_settings"], aws_param_store_name="/other/lab"
        )
        [error] = await self.refused(client, HPC, {"jobs": [request]})
        self.assertRegex(error, "^job 1, aws_param_store_name: .* [(]AWS_PARAM_STORE_NAME[)]")

    async def test_basic_jobs_of_release_0_11(self) -> None:
        client = await self.client()
        job = await self.accepted(client, BASIC, body("basic_of_release_0_11"))
        self.assertIn("/lab-data/behavior_690166_", job["location"])

    async def test_an_uploader_of_2024_finds_its_job_on_the_status_page(self) -> None:
        client = await self.client()
        job = await self.accepted(client, HPC, body("uploader_2024"))
        self.assertIn("/lab-open/behavior_690167_", job["location"])
        [sent] = self.cluster.jobs()
        self.assertEqual(900, sent.properties["time_limit"])
        self.assertEqual("anna.apple@example.org", sent.properties["mail_user"])
        self.assertIn(job["name"], (await client.get("/jobs")).text)

    async def test_a_watchdog_of_2024_names_no_person(self) -> None:
        client = await self.client(**NO_NAME)
        job = await self.accepted(client, HPC, body("watchdog_2024"))
        self.assertEqual("", job["submitter"])

    async def test_a_watchdog_of_2024_is_refused_if_a_name_is_required(self) -> None:
        client = await self.client()
        self.assertEqual(
            ["job 1, processor_full_name: missing; every request needs it"],
            await self.refused(client, HPC, body("watchdog_2024")),
        )

    async def test_a_job_with_a_script_and_secrets_is_refused(self) -> None:
        client = await self.client(**NO_NAME)
        errors = await self.refused(client, HPC, body("cron_with_script"))
        self.assertEqual(
            {
                "job 1, project_name",
                "job 1, codeocean_domain",
                "job 1, metadata_service_domain",
                "job 1, aind_data_transfer_repo_location",
                "job 1, hpc_settings.environment",
            },
            {error.partition(": ")[0] for error in errors},
        )
        self.assertNotIn("slurm/v0.0.36", " ".join(errors))

    async def test_a_job_with_a_script_is_accepted_once_these_errors_are_corrected(self) -> None:
        client = await self.client(**NO_NAME)
        [request] = body("cron_with_script")["jobs"]
        request["hpc_settings"] = without(request["hpc_settings"], "environment")
        request["upload_job_settings"] = without(
            request["upload_job_settings"],
            *("codeocean_domain", "metadata_service_domain", "aind_data_transfer_repo_location"),
            project_name="Light sheet",
        )
        job = await self.accepted(client, HPC, {"jobs": [request]})
        self.assertIn("/aind-open-data/exaSPIM_125L_2022-08-05_17-25-36", job["location"])
        [sent] = self.cluster.jobs()
        self.assertEqual(128, sent.properties["tasks"])
        self.assertEqual(request["script"], job["script"])

    async def test_errors_are_listed_job_by_job(self) -> None:
        client = await self.client()
        errors = await self.refused(client, HPC, body("malformed_hpc"))
        numbers = [int(re.match(r"job (\d+), ", error)[1]) for error in errors]
        self.assertEqual([1] * 7 + [2] * 7, numbers)
        self.assertIn("job 1, script: does not begin", errors[6])
        many = [{"upload_job_settings": json.dumps({}), "script": "x"} for _ in range(11)]
        errors = await self.refused(client, HPC, {"jobs": many})
        numbers = [int(re.match(r"job (\d+), ", error)[1]) for error in errors]
        self.assertEqual(sorted(numbers), numbers)

    async def test_a_client_of_another_api_hears_of_the_routes(self) -> None:
        client = await self.client()
        for path in ("/api/v1/submit_jobs", "/api/v2/submit_jobs", "/api/v2/parameters"):
            response = await client.post(path, json={"upload_jobs": []})
            self.assertEqual(404, response.status_code)
            [error] = response.json()["data"]["errors"]
            self.assertIn(f"nothing at {path}. ", error)
            self.assertIn("/api/submit_basic_jobs or /api/submit_hpc_jobs", error)

    async def test_malformed_jobs(self) -> None:
        client = await self.client()
        errors = await self.refused(client, HPC, body("malformed_hpc"))
        for number in (1, 2):
            self.assertIn(f"job {number}, platform: missing; every request needs it", errors)
        errors = await self.refused(client, BASIC, body("malformed_basic"))
        self.assertIn('job 1, malformed_key: unknown field "malformed_key"', errors)


class UploaderTest(ApplicationTest):
    """A client that validates a spreadsheet, and submits what it gets back."""

    settings = {"open_data_bucket_name": "lab-open", "require_processor_full_name": False}

    async def test_a_validated_row_is_submitted_as_it_is(self) -> None:
        sources = [self.data_dir / "ephys", self.data_dir / "videos"]
        for source in sources:
            source.mkdir()
        columns = {
            "project_name": "Ephys Platform",
            "platform": "ecephys",
            "subject-id": "712141",
            "force_cloud_sync": "False",
            "s3_bucket": "open",
            "modality0": "ecephys",
            "modality0.source": str(sources[0]),
            "modality1": "behavior-videos",
            "modality1.source": str(sources[1]),
            "metadata_dir": str(self.data_dir),
            "acq-datetime": "2024-06-06 12:00:00",
        }
        data = f"{','.join(columns)}\r\n{','.join(columns.values())}"
        files = {"file": ("jobs.csv", data)}
        response = await self.client.post("/api/validate_csv", files=files)
        self.assertEqual(200, response.status_code, response.text)
        job = {
            "upload_job_settings": self.envelope(response)["jobs"][0],
            "hpc_settings": json.dumps({"time_limit": 900, "mail_user": "anna@example.org"}),
            "script": "",
        }
        response = await self.client.post(HPC, json={"jobs": [job]})
        self.assertEqual(200, response.status_code, response.text)
        [spec] = self.executor.specs.values()
        self.assertEqual("lab-open", spec.bucket)
        page = (await self.client.get("/jobs")).text
        self.assertIn("ecephys_712141_2024-06-06_12-00-00", page)

    async def test_behavior_dir_is_one_folder_however_it_is_written(self) -> None:
        behavior = [{"modality": "behavior", "source": str(self.data_dir)}]
        text = upload_settings(
            self.data_dir, modalities=behavior, behavior_dir=f"{self.data_dir}/./"
        )
        response = await self.client.post(BASIC, json={"jobs": [text]})
        self.assertEqual(200, response.status_code, response.text)
        [entry] = self.envelope(response)["responses"]
        job = self.envelope(await self.client.get(f"/api/jobs/{entry['job_id']}"))["job"]
        self.assertEqual("behavior", job["modalities"])
        self.assertIn("is a behavior modality already", " ".join(job["warnings"]))

    async def test_checks_name_behavior_dir(self) -> None:
        absent = str(self.data_dir / "absent")
        text = upload_settings(self.data_dir, behavior_dir=absent)
        response = await self.client.post(BASIC, json={"jobs": [text]})
        warnings = " ".join(self.envelope(response)["warnings"])
        self.assertRegex(warnings, "job 1, behavior_dir: [^:]* does not exist")
        data = f"{HEADER},behavior_dir\r\n{csv_row(self.data_dir, subject_id='2')},{absent}"
        response = await self.client.post("/api/validate_csv", files={"file": ("a.csv", data)})
        warnings = " ".join(self.envelope(response)["warnings"])
        self.assertRegex(warnings, "row 2, behavior_dir: [^:]* does not exist")
        self.assertNotIn("modality1", warnings)
