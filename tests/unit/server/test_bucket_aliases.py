"""Words in place of the names of buckets: `private`, `open`, `scratch` and `default`."""

import asyncio
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from aind_data_transfer_service.jobs.states import JobState
from tests.support.application import ApplicationTest
from tests.support.jobs import a_job
from tests.support.older_database import write_older_database
from tests.support.requests import HEADER, csv_row, upload_settings

BASIC = "/api/submit_basic_jobs"
HPC = "/api/submit_hpc_jobs"
SETTING = {
    "private": "PRIVATE_BUCKET_NAME",
    "open": "OPEN_DATA_BUCKET_NAME",
    "scratch": "SCRATCH_BUCKET_NAME",
    "default": "DEFAULT_S3_BUCKET",
}
BUCKETS = {"private": "lab-data", "open": "open-data", "scratch": "lab-tmp", "default": "lab-inbox"}


class WordsTest(ApplicationTest):
    """Jobs go to the bucket that the settings name."""

    settings = {SETTING[word].lower(): bucket for word, bucket in BUCKETS.items()} | {
        "allowed_buckets": "lab-*,open-data,open,scratch",
        "allow_custom_scripts": True,
    }

    async def submit(self, route: str, **changes: str) -> dict:
        """Submit a job, and return its record."""
        text = upload_settings(self.data_dir, **changes)
        job: str | dict = text if route == BASIC else {"upload_job_settings": text}
        response = await self.client.post(route, json={"jobs": [job]})
        self.assertEqual(200, response.status_code, response.text)
        job_id = self.envelope(response)["responses"][0]["job_id"]
        return self.envelope(await self.client.get(f"/api/jobs/{job_id}"))["job"]

    async def errors(self, *texts: str) -> list[str]:
        """Return what is wrong with jobs."""
        response = await self.client.post(BASIC, json={"jobs": list(texts)})
        self.assertEqual(406, response.status_code, response.text)
        return self.envelope(response)["errors"]

    async def test_a_job_goes_to_the_bucket_behind_its_word(self) -> None:
        for number, (word, bucket) in enumerate(BUCKETS.items()):
            for place, route in enumerate((BASIC, HPC)):
                with self.subTest(word, route=route):
                    subject = f"{number}{place}"
                    job = await self.submit(route, s3_bucket=word, subject_id=subject)
                    self.assertIn(f"/{bucket}/behavior_{subject}_", job["location"])
                    self.assertEqual(bucket, self.executor.specs[job["id"]].bucket)
                    request = json.loads(self.executor.specs[job["id"]].request)
                    self.assertEqual(bucket, request["s3_bucket"])

    async def test_a_word_is_taken_in_any_case_and_a_name_stays(self) -> None:
        job = await self.submit(BASIC, s3_bucket=" Open ")
        self.assertIn("/open-data/", job["location"])
        job = await self.submit(BASIC, s3_bucket="lab-open", subject_id="2")
        self.assertIn("/lab-open/", job["location"])

    async def test_the_keys_of_a_script_follow_the_bucket(self) -> None:
        job = {
            "upload_job_settings": upload_settings(self.data_dir, s3_bucket="open"),
            "script": "#!/bin/bash\n",
        }
        response = await self.client.post(HPC, json={"jobs": [job]})
        self.assertEqual(200, response.status_code, response.text)
        [spec] = self.executor.specs.values()
        self.assertEqual("open-data", spec.bucket)

    async def test_a_word_and_its_bucket_are_the_same_destination(self) -> None:
        for other in ("lab-data", "Private"):
            [error] = await self.errors(
                upload_settings(self.data_dir, s3_bucket="private"),
                upload_settings(self.data_dir, s3_bucket=other),
            )
            self.assertIn("job 2: the same asset as job 1", error)
        [error] = await self.errors(
            upload_settings(self.data_dir), upload_settings(self.data_dir, s3_bucket="default")
        )
        self.assertIn("job 2: the same asset as job 1", error)

    async def test_a_spreadsheet_shows_the_bucket_and_its_rows_can_be_submitted(self) -> None:
        rows = [
            f"{csv_row(self.data_dir, subject_id=str(number))},{word}"
            for number, word in enumerate(BUCKETS)
        ]
        data = "\r\n".join([f"{HEADER},s3_bucket", *rows])
        response = await self.client.post("/api/validate_csv", files={"file": ("jobs.csv", data)})
        self.assertEqual(200, response.status_code, response.text)
        jobs = self.envelope(response)["jobs"]
        self.assertEqual(list(BUCKETS.values()), [json.loads(job)["s3_bucket"] for job in jobs])
        response = await self.client.post(BASIC, json={"jobs": jobs})
        self.assertEqual(200, response.status_code, response.text)
        self.assertEqual(set(BUCKETS.values()), {s.bucket for s in self.executor.specs.values()})

    async def test_a_job_that_is_submitted_again_keeps_its_bucket(self) -> None:
        job = await self.submit(BASIC, s3_bucket="private")
        await self.client.post(f"/api/jobs/{job['id']}/cancel")
        response = await self.client.post(f"/api/jobs/{job['id']}/resubmit")
        self.assertEqual(200, response.status_code, response.text)
        again = self.envelope(response)["job"]
        self.assertEqual(job["location"], again["location"])
        self.assertEqual("lab-data", self.executor.specs[again["id"]].bucket)

    async def test_a_recorded_bucket_is_a_name_whatever_the_settings_are_now(self) -> None:
        for number, word in enumerate(BUCKETS):
            text = upload_settings(self.data_dir, subject_id=str(number), s3_bucket=word)
            name = f"behavior_{number}_2024-02-19_11-25-17"
            location = f"{self.state_dir}/destination/{word}/{name}"
            job = a_job(name=name, location=location, upload_job_settings=text)
            self.manager.store.add([replace(job, state=JobState.FAILED)])
            with self.subTest(word):
                response = await self.client.post(f"/api/jobs/{job.id}/resubmit")
                if word in ("private", "default"):
                    self.assertEqual(406, response.status_code, response.text)
                    self.assertIn(f'"{word}" is not a bucket', self.envelope(response)["errors"][0])
                    continue
                self.assertEqual(200, response.status_code, response.text)
                again = self.envelope(response)["job"]
                self.assertEqual(location, again["location"])
                self.assertEqual(word, self.executor.specs[again["id"]].bucket)


class RecordedValuesTest(ApplicationTest):
    """A job of an earlier release, which accepted values that are refused now."""

    async def test_it_is_submitted_again_as_it_was_recorded(self) -> None:
        values = {"project_name": "-", "acq_datetime": "2024-11-03T01:30:00"}
        text = upload_settings(self.data_dir, subject_id="none", **values)
        response = await self.client.post(BASIC, json={"jobs": [text]})
        self.assertEqual(406, response.status_code)
        job = a_job(
            name="behavior_none_2024-11-03_01-30-00",
            location=f"{self.state_dir}/destination/b/behavior_none_2024-11-03_01-30-00",
            upload_job_settings=text,
            state=JobState.FAILED,
        )
        self.manager.store.add([job])
        response = await self.client.post(f"/api/jobs/{job.id}/resubmit")
        self.assertEqual(200, response.status_code, response.text)
        again = self.manager.store.get(self.envelope(response)["job"]["id"])
        self.assertEqual(("-", "none"), (again.project_name, again.subject_id))
        self.assertEqual((job.name, values["acq_datetime"]), (again.name, again.acq_datetime))


class EarlierReleaseTest(ApplicationTest):
    """An earlier release recorded words as they were written, and took them for names."""

    settings = {
        "private_bucket_name": "lab-data",
        "scratch_bucket_name": "scratch",
        "allow_custom_scripts": True,
    }

    async def asyncSetUp(self) -> None:
        """Start this release on the database of that one."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.places = Path(folder.name)
        url = f"sqlite:///{folder.name}/jobs.sqlite3"
        self.jobs = {}
        states = {
            "unsent": JobState.SUBMITTED,
            "sent": JobState.RUNNING,
            "ended": JobState.FAILED,
        }
        data = self.places / "data"
        data.mkdir()
        for number, word in enumerate(("private", "open", "scratch", "lab-own")):
            for place, (name, state) in enumerate(states.items()):
                subject = f"{number}{place}"
                asset = f"behavior_{subject}_2024-02-19_11-25-17"
                text = upload_settings(data, subject_id=subject, s3_bucket=word)
                job = a_job(name=asset, location=f"/old/{word}/{asset}", upload_job_settings=text)
                sent = {} if name == "unsent" else {"executor": "hand", "executor_ref": job.id}
                self.jobs[word, name] = replace(job, state=state, **sent)
        unsent = self.jobs["private", "unsent"]
        text = "#!/bin/sh\nmy-upload\n"
        script = replace(unsent, id=a_job().id, location="/old/private/own", script=text)
        self.jobs["private", "script"] = script
        write_older_database(url, list(self.jobs.values()), "0007")
        self.settings = self.settings | {"database_url": url}
        await super().asyncSetUp()

    async def job(self, word: str, name: str) -> dict:
        """Read a job of that release."""
        response = await self.client.get(f"/api/jobs/{self.jobs[word, name].id}")
        return self.envelope(response)["job"]

    async def test_an_unsent_job_goes_to_no_bucket_that_nobody_meant(self) -> None:
        for word, words in (
            ("private", '"private" as the name .* stands for lab-data; resubmit .* to lab-data$'),
            ("open", '"open" as the name .* have the administrator set OPEN_DATA_BUCKET_NAME'),
        ):
            job_id = self.jobs[word, "unsent"].id
            async with asyncio.timeout(10):
                while (job := await self.job(word, "unsent"))["state"] == "SUBMITTED":
                    await asyncio.sleep(0.02)
            self.assertEqual("FAILED", job["state"])
            self.assertRegex(job["reason"], words)
            self.assertNotIn(job_id, self.executor.specs)
            self.assertNotIn("has_bucket_word", job)

    async def test_an_unsent_job_of_a_bucket_that_is_called_so_is_sent(self) -> None:
        for word in ("scratch", "lab-own"):
            job_id = self.jobs[word, "unsent"].id
            async with asyncio.timeout(10):
                while job_id not in self.executor.specs:
                    await asyncio.sleep(0.02)
            self.assertEqual(word, self.executor.specs[job_id].bucket)

    async def test_an_unsent_job_with_a_script_of_its_own_is_sent(self) -> None:
        job = self.jobs["private", "script"]
        async with asyncio.timeout(10):
            while job.id not in self.executor.specs:
                await asyncio.sleep(0.02)
        self.assertEqual(job.script, self.executor.specs[job.id].script)

    async def test_an_ended_job_that_is_submitted_again_goes_to_the_bucket_of_the_word(
        self,
    ) -> None:
        for word, bucket in (("private", "lab-data"), ("scratch", "scratch"), ("lab-own",) * 2):
            old = self.jobs[word, "ended"]
            response = await self.client.post(f"/api/jobs/{old.id}/resubmit")
            self.assertEqual(200, response.status_code, response.text)
            job = self.envelope(response)["job"]
            self.assertEqual(bucket, self.executor.specs[job["id"]].bucket)
            self.assertIn(f"/{bucket}/{old.name}", job["location"])
            warned = [text for text in job["warnings"] if "the new job uploads to lab-data" in text]
            self.assertEqual(word == "private", bool(warned), job["warnings"])
            again = self.manager.store.get(job["id"])
            self.assertFalse(again.has_bucket_word)
            self.assertEqual(old.location, (await self.job(word, "ended"))["location"])

    async def test_a_word_without_a_bucket_is_refused_with_its_setting(self) -> None:
        response = await self.client.post(f"/api/jobs/{self.jobs['open', 'ended'].id}/resubmit")
        self.assertEqual(406, response.status_code, response.text)
        [error] = self.envelope(response)["errors"]
        self.assertIn("have the administrator set OPEN_DATA_BUCKET_NAME", error)

    async def test_a_job_that_was_sent_is_left_alone(self) -> None:
        for word in ("private", "open"):
            job = await self.job(word, "sent")
            self.assertEqual(self.jobs[word, "sent"].location, job["location"])


class AllowedTest(ApplicationTest):
    """`ALLOWED_BUCKETS` is about the bucket and not about the word."""

    settings = {
        "allowed_buckets": "private,lab-*",
        "private_bucket_name": "open-data",
        "scratch_bucket_name": "lab-tmp",
        "default_s3_bucket": "lab-data",
    }

    async def test_the_bucket_behind_a_word_has_to_be_allowed(self) -> None:
        texts = [upload_settings(self.data_dir, s3_bucket=word) for word in ("scratch", "private")]
        response = await self.client.post(BASIC, json={"jobs": texts})
        self.assertEqual(406, response.status_code)
        [error] = self.envelope(response)["errors"]
        self.assertIn(
            'job 2, s3_bucket: "private" stands for open-data: "open-data" is not a bucket', error
        )


class NoBucketTest(ApplicationTest):
    """A word without a bucket is refused."""

    async def test_the_error_names_the_setting(self) -> None:
        words = ("private", "OPEN", "scratch")
        for number, word in enumerate(words):
            setting = SETTING[word.lower()]
            text = upload_settings(self.data_dir, s3_bucket=word)
            for route, job in ((BASIC, text), (HPC, {"upload_job_settings": text})):
                response = await self.client.post(route, json={"jobs": [job]})
                self.assertEqual(406, response.status_code, response.text)
                [error] = self.envelope(response)["errors"]
                self.assertRegex(error, f"^job 1, s3_bucket: .* the administrator set {setting}$")
            data = f"{HEADER},s3_bucket\r\n{csv_row(self.data_dir)},{word}"
            response = await self.client.post(
                "/api/validate_csv", files={"file": (f"{number}.csv", data)}
            )
            [error] = self.envelope(response)["errors"]
            self.assertRegex(error, f"^row 2, s3_bucket: .* set {setting}$")

    async def test_default_is_the_folder_of_jobs_that_name_none(self) -> None:
        text = upload_settings(self.data_dir, s3_bucket="default")
        response = await self.client.post(BASIC, json={"jobs": [text]})
        self.assertEqual(200, response.status_code, response.text)
        [spec] = self.executor.specs.values()
        self.assertEqual("data", spec.bucket)


class NoDefaultTest(ApplicationTest):
    """In S3 there is no folder for jobs that name no bucket."""

    settings = {"destination": "s3://", "aws_endpoint_url": "http://127.0.0.1:1"}

    async def test_default_needs_its_setting(self) -> None:
        text = upload_settings(self.data_dir, s3_bucket="default")
        response = await self.client.post(BASIC, json={"jobs": [text]})
        [error] = self.envelope(response)["errors"]
        self.assertIn("have the administrator set DEFAULT_S3_BUCKET", error)
