"""Slurm's states and reasons in words, and what Slurm is asked."""

import unittest
from dataclasses import replace
from datetime import UTC, datetime

from aind_data_transfer_service.executors.base import JobSpec, RunState
from aind_data_transfer_service.executors.slurm.batch_script import compose_environment
from aind_data_transfer_service.executors.slurm.job_properties import (
    job_properties,
    marked_id,
    setting_errors,
)
from aind_data_transfer_service.executors.slurm.states import run_status
from aind_data_transfer_service.jobs.models import new_job_id
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.models import BASE_STATES, SlurmJob
from aind_data_transfer_service.slurmrest.parsing import read_job

THEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = SlurmJob(7, "RUNNING", nodes="n1", started=THEN, ended=THEN)


class StatesTest(unittest.TestCase):
    """How jobs stand."""

    def assert_said(self, expected: RunState, words: str, **values):
        """A job is in a state, and its reason holds some words."""
        status = run_status("7:a", replace(JOB, **values))
        self.assertEqual(status.state, expected)
        self.assertRegex(status.reason, words)
        return status

    def test_every_state_of_slurms_has_one_of_ours(self):
        for state in BASE_STATES:
            with self.subTest(state):
                self.assertIsInstance(run_status("7:a", replace(JOB, state=state)).state, RunState)

    def test_why_a_job_waits_is_told_in_words(self):
        for reason, words in {
            "Resources": "waits for nodes to become free",
            "Priority": "higher priority",
            "JobHeldAdmin": "held by an administrator",
            "QOSMaxJobsPerUserLimit": "a limit of the cluster .*; Slurm: QOSMaxJobs",
            "AssocGrpCpuLimit": "limit of the cluster",
            "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved": "down, drained",
            "launch_failed_requeued_held": "administrator has checked the node and released it",
            "SomethingNew": "; Slurm: SomethingNew$",
            "": "waits for the scheduler",
        }.items():
            with self.subTest(reason):
                status = self.assert_said(RunState.PENDING, words, state="PENDING", reason=reason)
                self.assertIsNone(status.started_at, "it is only expected")

    def test_a_job_that_another_cluster_of_the_federation_has(self):
        revoked = frozenset({"REVOKED"})
        words = "another cluster of the federation"
        self.assert_said(RunState.PENDING, words, state="PENDING", flags=revoked)
        self.assert_said(RunState.CANCELLED, words, state="CANCELLED", flags=revoked)
        self.assert_said(RunState.COMPLETED, "^$", state="COMPLETED", flags=revoked)
        for said, end, expected in (
            ("REVOKED", 0, RunState.PENDING),
            (["REVOKED"], {"set": True, "infinite": False, "number": 0}, RunState.PENDING),
            (["PENDING", "REVOKED"], 0, RunState.PENDING),
            ("REVOKED", 1764517442, RunState.CANCELLED),
            (["CANCELLED", "REVOKED"], 0, RunState.CANCELLED),
        ):
            with self.subTest(said=said, end=end):
                job = read_job({"job_id": 7, "job_state": said, "end_time": end})
                status = run_status("7:a", job)
                self.assertEqual(expected, status.state)
                self.assertIn(words, status.reason)

    def test_a_requeue_is_told(self):
        self.assert_said(RunState.PENDING, "back into the queue", state="PENDING", restarts=1)
        words = r"\(2 times so far\) and waits for nodes"
        self.assert_said(RunState.PENDING, words, state="PENDING", restarts=2, reason="Resources")
        flags = frozenset({"REQUEUED"})
        self.assert_said(RunState.PENDING, "back into", state="NODE_FAIL", flags=flags)
        flags = frozenset({"SPECIAL_EXIT"})
        self.assert_said(RunState.PENDING, "requeued and held", state="FAILED", flags=flags)

    def test_on_the_way(self):
        self.assert_said(RunState.RUNNING, "^$")
        self.assert_said(RunState.PENDING, "made ready", flags=frozenset({"CONFIGURING"}))
        self.assert_said(RunState.RUNNING, "suspended", state="SUSPENDED")
        flags = frozenset({"COMPLETING"})
        status = self.assert_said(RunState.RUNNING, "is ending", state="COMPLETED", flags=flags)
        self.assertEqual((status.exit_code, status.ended_at), (None, None))
        self.assert_said(RunState.RUNNING, "is UNHEARD_OF", state="UNHEARD_OF")

    def test_how_it_ended(self):
        done = self.assert_said(RunState.COMPLETED, "^$", state="COMPLETED", exit_code=0)
        self.assertEqual((done.exit_code, done.ended_at, done.node), (0, THEN, "n1"))
        failed = self.assert_said(
            RunState.FAILED, "^$", state="FAILED", exit_code=14, reason="NonZeroExitCode"
        )
        self.assertEqual(failed.exit_code, 14)
        self.assert_said(RunState.FAILED, "SIGKILL, as when memory", state="FAILED", exit_code=137)
        self.assert_said(RunState.FAILED, "^$", state="FAILED", exit_code=143)
        self.assert_said(RunState.FAILED, "SIGSEGV", state="FAILED", signal=11)
        self.assert_said(RunState.FAILED, "signal 99", state="FAILED", signal=99)
        self.assert_said(
            RunState.FAILED, "its output could not be written", state="FAILED", signal=53
        )
        launch = "JobLaunchFailure"
        self.assert_said(RunState.FAILED, r"not be started \(n1\)", state="FAILED", reason=launch)
        self.assert_said(RunState.FAILED, "failed .*; Slurm: Odd$", state="FAILED", reason="Odd")
        late = self.assert_said(
            RunState.TIMEOUT,
            r"limit of 60 minutes; .* larger hpc_settings\.time_limit .default: HPC_TIME_LIMIT or",
            state="TIMEOUT",
            time_limit_minutes=60,
        )
        self.assertIsNone(late.exit_code)
        self.assert_said(RunState.TIMEOUT, "deadline", state="DEADLINE")
        memory = {"state": "OUT_OF_MEMORY", "memory_per_cpu_mb": 500}
        self.assert_said(
            RunState.FAILED, r"out of memory \(500 MB per CPU\); .*memory_per_cpu", **memory
        )
        memory = {"state": "OUT_OF_MEMORY", "memory_per_node_mb": 500}
        self.assert_said(
            RunState.FAILED, r"out of memory \(500 MB\); .*settings\.memory_per_node", **memory
        )
        self.assert_said(RunState.FAILED, r"node failed \(n1\)", state="NODE_FAIL")
        self.assert_said(RunState.FAILED, "could not be started", state="BOOT_FAIL")
        self.assert_said(RunState.FAILED, "made way", state="PREEMPTED")
        self.assert_said(RunState.CANCELLED, "not from here", state="CANCELLED")
        self.assert_said(RunState.CANCELLED, "before it began", state="CANCELLED", nodes="")


class PropertiesTest(unittest.TestCase):
    """What Slurm is asked."""

    def hpc(self, **values) -> HpcSettings:
        """Make settings."""
        return HpcSettings(current_working_directory="/hpc", logging_directory="/logs", **values)

    def ask(self, hpc: HpcSettings | None = None, **settings):
        """Compose the properties of a job."""
        spec = JobSpec("j1", "a name", request="{}", settings=settings)
        return job_properties(spec, hpc or self.hpc())

    def test_the_sites_settings_are_asked_for(self):
        hpc = self.hpc(
            partition="part",
            qos="dev",
            account="lab",
            minimum_cpus_per_node=8,
            memory_per_cpu=8000,
            nodes="[1,2]",
            tasks=1,
            time_limit=360,
        )
        self.assertEqual(
            self.ask(hpc),
            {
                "name": "a name",
                "comment": "aind-data-transfer-service:j1",
                "partition": "part",
                "qos": "dev",
                "account": "lab",
                "minimum_cpus_per_node": 8,
                "memory_per_cpu": 8000,
                "nodes": [1, 2],
                "tasks": 1,
                "time_limit": 360,
                "current_working_directory": "/hpc",
                "standard_out": "/logs/j1.out",
                "standard_error": "/logs/j1.err",
                "open_mode": "append",
            },
        )

    def test_a_users_settings_count_for_their_job(self):
        hpc = self.hpc(time_limit=360, memory_per_cpu=10, qos="dev")
        asked = self.ask(
            hpc, time_limit="90", memory_per_node=5, qos=None, standard_output="/logs/x.txt"
        )
        self.assertEqual((asked["time_limit"], asked["memory_per_node"]), (90, 5))
        self.assertNotIn("memory_per_cpu", asked)
        self.assertEqual((asked["qos"], asked["standard_out"]), ("dev", "/logs/x.txt"))

    def test_the_sites_defaults_count_unless_the_job_says_otherwise(self):
        defaults = {"time_limit": 360, "nice": 5, "comment": "night shift", "memory_per_node": 9}
        hpc = self.hpc(job_defaults=defaults, qos="dev")
        asked = self.ask(hpc)
        self.assertEqual((asked["time_limit"], asked["nice"], asked["qos"]), (360, 5, "dev"))
        self.assertEqual(asked["comment"], "aind-data-transfer-service:j1 night shift")
        self.assertEqual(asked["memory_per_node"], 9)
        asked = self.ask(hpc, time_limit="90", comment="mine", memory_per_cpu=3)
        self.assertEqual((asked["time_limit"], asked["nice"]), (90, 5))
        self.assertEqual(asked["comment"], "aind-data-transfer-service:j1 mine")
        self.assertEqual(asked["memory_per_cpu"], 3)
        self.assertNotIn("memory_per_node", asked)

    def test_a_default_does_not_let_users_change_it(self):
        hpc = self.hpc(job_defaults={"qos": "dev", "time_limit": 5}, user_settings="time_limit")
        [error] = setting_errors({"qos": "x", "time_limit": 6}, hpc)
        self.assertIn("hpc_settings.qos: not to be set here", error)

    def test_the_mark_stays_whatever_the_comment(self):
        asked = self.ask(comment="aind-data-transfer-service:j2\nnight shift")
        self.assertEqual(marked_id(asked["comment"]), "j1")
        self.assertIn("night shift", asked["comment"])
        for comment in ("", "x aind-data-transfer-service:j1", "aind-data-transfer-service:", "a"):
            self.assertEqual(marked_id(comment), "")

    def test_names_and_paths_that_slurm_would_take_apart_do_not_reach_it(self):
        hpc = HpcSettings(current_working_directory="/w", logging_directory="/logs 100%j")
        asked = self.ask(hpc, name="a\nb")
        self.assertEqual((asked["standard_out"], asked["name"]), ("/logs 100%%j/j1.out", "a b"))
        self.assertEqual(self.ask(name="\n")["name"], "j1")

    def test_what_users_may_not_ask_for_is_refused_by_name(self):
        for name, value, words in (
            ("tme_limit", 5, "did you mean time_limit"),
            ("tasks", "x", "whole number"),
            ("array", "1-9", "submit several jobs"),
            ("account", "other", "set by this site"),
            ("environment", {"A": "b"}, "set by this site"),
            ("standard_out", "/etc/x", "beneath /logs"),
            ("standard_error", "/logs/../x", "beneath /logs"),
            ("standard_in", "x", "beneath /logs"),
            ("current_working_directory", "/elsewhere", "beneath /logs or /hpc"),
        ):
            with self.subTest(name):
                [error] = setting_errors({name: value}, self.hpc())
                self.assertRegex(error, f"^hpc_settings.*{name}.*{words}")

    def test_a_log_is_written_into_no_file_of_another_job(self):
        other = new_job_id()
        for path, called in (
            (f"/logs/{other}.out", None),
            (f"/logs/{other}.events.jsonl", None),
            ("/logs/%x.out", other),
            ("/logs/%5x.events.jsonl", other),
            ("/logs/%x", f"{other}.claim"),
            ("/logs/%x", "../../etc/cron.d/x"),
            ("/logs/.\\./x", None),
        ):
            with self.subTest(path, called=called):
                name = {"name": called} if called else {}
                [error] = setting_errors({"standard_out": path, **name}, self.hpc())
                self.assertRegex(error, "^hpc_settings.standard_out: (is the name|write a path)")
        mine = {
            "name": "my job",
            "standard_out": "/logs/%x-%j.out",
            "standard_error": "/logs/e.txt",
        }
        self.assertEqual([], setting_errors(mine, self.hpc()))

    def test_only_patterns_that_lead_to_no_other_jobs_file_are_taken(self):
        for name in (
            *("%j.out", "%A-%a.out", "x-%J.out", "x-%%j.out", "x-%12j.out", "x-%b.out", "x%", "%"),
            *("12345678901%j.out", "%u.out", "%N.%j-x", "2n11ca3gg%j.out", "%x%j.out", "%s_%t"),
        ):
            for prop in ("standard_out", "standard_error"):
                with self.subTest(name, prop=prop):
                    asked = {prop: f"/logs/{name}", "name": "2n11ca"}
                    [error] = setting_errors(asked, self.hpc())
                    self.assertRegex(error, f"^hpc_settings.{prop}: could be the file of another")
        for path in ("/logs/%u-x/y-%j.out", "/logs/%j/x-1.out"):
            [error] = setting_errors({"standard_out": path}, self.hpc())
            self.assertIn("could be the file of another job", error)
        for name in ("%x-%j.out", "slurm-%j.out", "%u_%N_%j.txt", "plain.txt"):
            self.assertEqual([], setting_errors({"standard_out": f"/logs/{name}"}, self.hpc()))

    def test_a_path_that_a_site_allows_is_no_jobs_own_file_either(self):
        hpc = self.hpc(user_settings="standard_out,open_mode")
        self.assertEqual([], setting_errors({"standard_out": "/elsewhere/x-%j.out"}, hpc))
        for path in (f"/logs/{new_job_id()}.out", "/logs/%j.out"):
            self.assertEqual(1, len(setting_errors({"standard_out": path}, hpc)), path)

    def test_no_job_truncates_a_log_that_may_be_anothers(self):
        for name in ("standard_out", "standard_error", "standard_output"):
            asked = {name: "/logs/x-%j.out", "open_mode": "truncate"}
            [error] = setting_errors(asked, self.hpc())
            self.assertRegex(error, "^hpc_settings.open_mode: .*log of an earlier job.*append")
        self.assertEqual([], setting_errors({"open_mode": "truncate"}, self.hpc()))

    def test_what_they_may_is_not(self):
        asked = {
            "name": "x",
            "time_limit": 5,
            "standard_output": "/logs/x",
            "standard_in": "/dev/null",
            "current_working_directory": "/hpc/x",
            "mail_type": ["END"],
            "hold": True,
        }
        self.assertEqual(setting_errors(asked, self.hpc()), [])

    def test_users_bring_no_code_and_no_other_way_to_the_store_by_a_variable(self):
        hpc = self.hpc(user_settings="environment")
        for name in (
            *("BASH_ENV", "LD_PRELOAD", "PYTHONPATH", "PATH", "HOME", "PYTHONSTARTUP", "SHELLOPTS"),
            *("https_proxy", "HTTP_PROXY", "SSL_CERT_FILE", "AWS_CONFIG_FILE", "SLURM_JOB_ID"),
            *("TDSHOST", "TDSPORT", "TDSDUMP", "FREETDSCONF", "FREETDS", "SYBASE", "DSQUERY"),
            *("HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "SSLKEYLOGFILE", "BOTO_CONFIG", "NETRC"),
            *("APPTAINERENV_AWS_ENDPOINT_URL", "SINGULARITY_BIND", "UPLOAD_JOB_JSON_ARGS"),
        ):
            with self.subTest(name):
                [error] = setting_errors({"environment": {name: "x"}}, hpc)
                self.assertIn(f"environment: {name}: only this site's administrator", error)
                spec = JobSpec("j", "n", request="{}", settings={"environment": {name: "x"}})
                self.assertNotEqual("x", compose_environment(spec, self.hpc(), {}).get(name))

    def test_users_never_set_what_steers_a_job(self):
        hpc = self.hpc(user_settings="environment")
        taken = {"METADATA_SERVICE_URL": "http://x", "aws_endpoint_url": "http://x", "JOB_ID": "1"}
        [error] = setting_errors({"environment": {**taken, "OMP_NUM_THREADS": "4"}}, hpc)
        self.assertEqual(
            "hpc_settings.environment: JOB_ID, METADATA_SERVICE_URL, aws_endpoint_url: only this "
            "site's administrator may set that; leave it out",
            error,
        )
        self.assertEqual([], setting_errors({"environment": {"OMP_NUM_THREADS": "4"}}, hpc))

    def test_a_site_may_name_what_users_may_ask_for(self):
        hpc = self.hpc(user_settings="environment,time_limit")
        allowed = {"environment": {"A": "b"}, "time_limit": 5, "name": "x", "mail_user": "a@b"}
        self.assertEqual(setting_errors(allowed, hpc), [])
        [error] = setting_errors({"qos": "x"}, hpc)
        self.assertIn("lets users set environment, mail_type, mail_user, name, time_limit", error)
