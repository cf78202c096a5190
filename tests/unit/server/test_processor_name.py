"""Jobs that name no person, as the settings allow or do not."""

import json

from tests.support.application import ApplicationTest
from tests.support.requests import HEADER, csv_row, upload_settings

BASIC = "/api/submit_basic_jobs"
NO_NAME = {"processor_full_name": None}


def without_column(data: str) -> str:
    """Remove the first column of a spreadsheet."""
    return "\r\n".join(line.partition(",")[2] for line in data.split("\r\n"))


class OptionalTest(ApplicationTest):
    """A service that does not require a name."""

    settings = {"require_processor_full_name": False}

    async def validate(self, data: str) -> dict:
        """Validate a spreadsheet."""
        files = {"file": ("jobs.csv", data)}
        return self.envelope(await self.client.post("/api/validate_csv", files=files))

    async def test_a_job_without_a_name_is_submitted_and_submitted_again(self) -> None:
        absent = upload_settings(self.data_dir, **NO_NAME)
        null = json.dumps(json.loads(absent) | {"subject_id": "2", "processor_full_name": None})
        blank = json.dumps(json.loads(absent) | {"subject_id": "3", "processor_full_name": " "})
        response = await self.client.post(BASIC, json={"jobs": [absent, null, blank]})
        self.assertEqual(200, response.status_code, response.text)
        for entry in self.envelope(response)["responses"]:
            job_id = entry["job_id"]
            job = self.envelope(await self.client.get(f"/api/jobs/{job_id}"))["job"]
            self.assertEqual("", job["submitter"])
            self.assertEqual(200, (await self.client.get(f"/jobs/{job_id}")).status_code)
            await self.client.post(f"/api/jobs/{job_id}/cancel")
            again = await self.client.post(f"/api/jobs/{job_id}/resubmit")
            self.assertEqual(200, again.status_code, again.text)
        self.assertEqual(200, (await self.client.get("/jobs")).status_code)

    async def test_a_name_that_is_given_is_kept_and_has_to_be_one(self) -> None:
        response = await self.client.post(BASIC, json={"jobs": [upload_settings(self.data_dir)]})
        [entry] = self.envelope(response)["responses"]
        job = self.envelope(await self.client.get(f"/api/jobs/{entry['job_id']}"))["job"]
        self.assertEqual("Anna Apple", job["submitter"])
        wrong = upload_settings(self.data_dir, subject_id="2", processor_full_name=5)
        response = await self.client.post(BASIC, json={"jobs": [wrong]})
        [error] = self.envelope(response)["errors"]
        self.assertIn('job 1, processor_full_name: "5" is no text', error)

    async def test_a_spreadsheet_may_lack_the_column_or_the_value(self) -> None:
        rows = csv_row(self.data_dir, processor_full_name=""), csv_row(
            self.data_dir, subject_id="2"
        )
        data = "\r\n".join([HEADER, *rows])
        for text in (data, without_column(data)):
            found = await self.validate(text)
            self.assertEqual(([], 2), (found["errors"], len(found["jobs"])))
        response = await self.client.post(BASIC, json={"jobs": found["jobs"]})
        self.assertEqual(200, response.status_code, response.text)

    async def test_a_spreadsheet_without_any_required_column_is_one_error_for_each(self) -> None:
        found = await self.validate("\r\n".join(["log_level,dry_run", *["INFO,FALSE"] * 500]))
        self.assertEqual(6, found["error_count"], found["errors"])
        self.assertNotIn("processor_full_name", str(found["errors"]))

    async def test_the_help_page_says_so(self) -> None:
        page = (await self.client.get("/help")).text
        self.assertIn("<code>processor_full_name</code></th><td>no</td>", page)
        self.assertIn("<code>project_name</code></th><td>yes</td>", page)


class RequiredTest(ApplicationTest):
    """By default a name is required."""

    async def test_a_job_without_a_name_is_refused(self) -> None:
        response = await self.client.post(
            BASIC, json={"jobs": [upload_settings(self.data_dir, **NO_NAME)]}
        )
        self.assertEqual(406, response.status_code)
        [error] = self.envelope(response)["errors"]
        self.assertEqual("job 1, processor_full_name: missing; every request needs it", error)
        data = without_column("\r\n".join([HEADER, csv_row(self.data_dir)]))
        response = await self.client.post("/api/validate_csv", files={"file": ("a.csv", data)})
        [error] = self.envelope(response)["errors"]
        self.assertIn('there is no column "processor_full_name"', error)
        page = (await self.client.get("/help")).text
        self.assertIn("<code>processor_full_name</code></th><td>yes</td>", page)
