"""What a service on a cluster checks before it records anything; the cluster is a mock on HTTP."""

import unittest

from aind_data_transfer_service.jobs.manager import HpcJobRequest, JobManager
from tests.support import slow
from tests.support.jobs import a_request
from tests.support.mock_cluster import SCRIPT, ClusterServiceTest
from tests.support.slurm_faults import Fault, FaultyServer


class SlurmSubmissionTest(ClusterServiceTest):
    """All of a request's jobs, or none."""

    async def refused(self, manager: JobManager, requests: list[HpcJobRequest]) -> list[str]:
        """Submit jobs of which none is recorded or sent; give the errors."""
        submission = await manager.submit_hpc(requests)
        self.assertEqual(("parse", []), (submission.stage, submission.responses))
        self.assertEqual(0, (await manager.find()).total)
        self.assertEqual([], self.cluster.jobs())
        return submission.errors

    @slow
    async def test_what_the_api_version_cannot_express_is_refused_for_all_jobs_at_once(self):
        manager = await self.start()
        requests = self.requests(
            50,
            job_7={"argv": ["a"]},
            job_50={"cpu_binding": "cores", "argv": ["b"], "tasks": 2},
        )
        errors = await self.refused(manager, requests)
        self.assertEqual(3, len(errors), errors)
        self.assertRegex(errors[0], r"^job 7, hpc_settings\.argv: .*v0\.0\.36.*into the script")
        self.assertRegex("\n".join(errors[1:]), r"job 50, hpc_settings\.argv: ")
        self.assertRegex("\n".join(errors[1:]), r"job 50, hpc_settings\.cpu_binding: .*v0\.0\.36")

    async def test_a_default_that_the_cluster_cannot_take_is_refused_where_no_job_replaces_it(self):
        defaults = {"cpu_binding": "cores", "partition": "nowhere", "nice": 3}
        manager = await self.start(job_defaults=defaults)
        job_2 = {"partition": "part"}
        errors = "\n".join(await self.refused(manager, self.requests(2, job_2=job_2)))
        self.assertRegex(errors, r"job 1, HPC_JOB_DEFAULTS\.cpu_binding: .*v0\.0\.36")
        self.assertRegex(errors, r"job 2, HPC_JOB_DEFAULTS\.cpu_binding: .*v0\.0\.36")
        self.assertRegex(errors, r'job 1, HPC_JOB_DEFAULTS\.partition: "nowhere" is not a part')
        self.assertNotIn("job 2, HPC_JOB_DEFAULTS.partition", errors)

    async def test_while_the_cluster_is_away_a_default_that_is_unsure_is_a_warning(self):
        async with FaultyServer(Fault.CLOSE) as server:
            port = int(server.url.rpartition(":")[2])
            manager = await self.start(port, job_defaults={"cpu_binding": "cores", "nice": 3})
            with self.assertLogs("aind_data_transfer_service", "WARNING"):
                submission = await manager.submit_hpc(self.requests(1))
            warning, saved = submission.warnings
            self.assertIn("saved", saved)
            self.assertRegex(warning, r"^job 1, HPC_JOB_DEFAULTS\.cpu_binding: could not be check")
            await manager.cancel(submission.responses[0]["job_id"])

    @slow
    async def test_jobs_that_it_can_express_are_all_sent(self):
        manager = await self.start()
        submission = await manager.submit_hpc(self.requests(50))
        self.assertEqual("ok", submission.stage, submission.errors)
        self.assertEqual(50, len(self.cluster.jobs()))

    async def test_numbers_beyond_what_slurm_counts_are_refused_with_what_would_be_right(self):
        manager = await self.start()
        requests = self.requests(
            9,
            job_1={"tasks": -3},
            job_2={"tasks": 0},
            job_3={"time_limit": 2**40},
            job_4={"memory_per_cpu": -1},
            job_5={"gres": "gpu:-2"},
            job_6={"nodes": [1, 10**12]},
            job_7={"gpus": "-1"},
            job_8={"cpus_per_task": 1e300},
            job_9={"signal": "TERM@soon"},
        )
        errors = await self.refused(manager, requests)
        names = "tasks tasks time_limit memory_per_cpu gres nodes gpus cpus_per_task signal".split()
        for number, (name, error) in enumerate(zip(names, errors, strict=True), 1):
            self.assertRegex(error, rf"^job {number}, hpc_settings\.{name}: .*; write ")

    @slow
    async def test_texts_that_reach_slurm_hold_no_control_or_direction_characters(self):
        manager = await self.start()
        for text in ("a\nb", "a\x1bb", "a\x85b", "a\u202eb", "a\u2066b", "a\u2028b", "\ud800"):
            with self.subTest(text=ascii(text)):
                errors = await self.refused(manager, self.requests(1, job_1={"partition": text}))
                self.assertRegex(errors[0], r"^job 1, hpc_settings.*partition")
        for script, found in (("echo \x1b[2K", "U\\+001B"), ("# \u202e", "U\\+202E")):
            [request] = self.requests(1)
            request = HpcJobRequest("{}", request.hpc_settings, SCRIPT + script)
            [error] = await self.refused(manager, [request])
            self.assertRegex(error, rf"^job 1, script: .*{found}")

    async def test_a_script_that_slurm_does_not_take_is_refused(self):
        manager = await self.start()
        script = SCRIPT + "é" * 2**20  # as long as a script may be, in characters
        script = script[: 2**20].replace("é", "\U00012000")
        [error] = await self.refused(
            manager, [HpcJobRequest("{}", self.requests(1)[0].hpc_settings, script)]
        )
        self.assertRegex(error, "^job 1, script: 4,194,.* bytes; .* at most")

    @slow
    async def test_a_partition_that_the_cluster_does_not_have_is_refused(self):
        manager = await self.start()
        requests = self.requests(
            2, job_1={"partition": "part"}, job_2={"partition": "part,nowhere"}
        )
        [error] = await self.refused(manager, requests)
        self.assertEqual(
            'job 2, hpc_settings.partition: "nowhere" is not a partition of this cluster; '
            "use one of part",
            error,
        )

    @slow
    async def test_while_the_cluster_is_away_jobs_are_recorded_with_a_warning_of_what_is_unsure(
        self,
    ):
        async with FaultyServer(Fault.CLOSE) as server:
            manager = await self.start(int(server.url.rpartition(":")[2]))
            with self.assertLogs("aind_data_transfer_service", "WARNING"):
                submission = await manager.submit_hpc(self.requests(3, job_2={"argv": ["a"]}))
            states = {response["state"] for response in submission.responses}
            self.assertEqual({"SUBMITTED"}, states)
            warning, saved = submission.warnings
            self.assertIn("saved", saved)
            self.assertRegex(
                warning, r"^job 2, hpc_settings\.argv: could not be checked .*fails if"
            )
            job = await manager.get(submission.responses[1]["job_id"])
            self.assertEqual((warning,), job.warnings)
            for response in submission.responses:
                job = await manager.cancel(response["job_id"])
                self.assertEqual(("CANCELLED", True), (job.state, job.cancel_requested))

    async def test_an_upload_is_checked_as_well(self):
        source = self.folder / "source"
        source.mkdir()
        manager = await self.start()
        request = HpcJobRequest(a_request(str(source)), '{"argv": ["x"]}')
        [error] = await self.refused(manager, [request])
        self.assertRegex(error, r"^job 1, hpc_settings\.argv: ")


if __name__ == "__main__":
    unittest.main()
