"""Names of assets, which have no platform in generation 2 of the metadata schema."""

import unittest
from dataclasses import replace

from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.settings.metadata import LabSettings, MetadataSettings
from tests.support.application import ApplicationTest
from tests.support.jobs import a_job
from tests.support.requests import upload_settings

NAME = "690165_2024-02-19_11-25-17"
COLUMNS = (
    "processor_full_name,project_name,platform,acq_datetime,subject_id,modality0,modality0.source"
)


class AssetNames(ApplicationTest):
    """The service of a lab that has chosen generation 2."""

    settings = {
        "metadata": LabSettings(choice=MetadataSettings(generation="2")),
        "allow_custom_scripts": True,
    }

    async def test_a_job_is_named_without_its_platform(self) -> None:
        texts = [upload_settings(self.data_dir, subject_id="690165")]
        response = await self.client.post("/api/submit_basic_jobs", json={"jobs": texts})
        [entry] = self.envelope(response)["responses"]
        answer = await self.client.get(f"/api/jobs/{entry['job_id']}")
        job = self.envelope(answer)["job"]
        self.assertEqual(NAME, job["name"])
        self.assertTrue(job["location"].endswith(f"/{NAME}"), job["location"])

    async def test_a_job_that_is_submitted_again_keeps_the_name_of_an_earlier_generation(
        self,
    ) -> None:
        name = f"behavior_{NAME}"
        text = upload_settings(self.data_dir, subject_id="690165", s3_bucket="data")
        location = f"{self.state_dir}/destination/data/{name}"
        for script in ("", "#!/bin/bash\n"):
            job = a_job(name=name, location=location, upload_job_settings=text, script=script)
            self.manager.store.add([replace(job, state=JobState.FAILED)])
            response = await self.client.post(f"/api/jobs/{job.id}/resubmit")
            self.assertEqual(200, response.status_code, response.text)
            again = self.envelope(response)["job"]
            self.assertEqual((name, location), (again["name"], again["location"]))
            self.assertEqual(name, self.executor.specs[again["id"]].name)
            await self.client.post(f"/api/jobs/{again['id']}/cancel")

    async def test_a_validated_row_and_what_is_wrong_with_it_show_the_name(self) -> None:
        row = f"Anna Apple,Ephys,behavior,2024-02-19 11:25:17,690165,behavior,{self.data_dir}"
        file = ("jobs.csv", "\n".join([COLUMNS, row]).encode())
        response = await self.client.post("/api/validate_csv", files={"file": file})
        self.assertEqual([NAME], self.envelope(response)["assets"])
        manifest = self.state_dir / "destination" / "data" / NAME / "behavior" / "a.txt"
        manifest.parent.mkdir(parents=True)
        manifest.write_text("data")
        response = await self.client.post("/api/validate_csv", files={"file": file})
        [error] = self.envelope(response)["errors"]
        self.assertIn(f"{NAME} exists already; correct the subject_id or acq_datetime, ", error)

    async def test_rows_that_differ_by_platform_alone_are_one_asset(self) -> None:
        rows = [
            f"Anna Apple,Ephys,{platform},2024-02-19 11:25:17,690165,behavior,{self.data_dir}"
            for platform in ("behavior", "ecephys")
        ]
        file = ("jobs.csv", "\n".join([COLUMNS, *rows]).encode())
        response = await self.client.post("/api/validate_csv", files={"file": file})
        [error] = self.envelope(response)["errors"]
        self.assertIn(f"the same asset as row 2 ({NAME})", error)


if __name__ == "__main__":
    unittest.main()
