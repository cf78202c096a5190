"""What is written in which dialect."""

import unittest
from datetime import UTC, datetime

from aind_data_transfer_service.slurmrest.api_versions import Dialect
from aind_data_transfer_service.slurmrest.errors import NotExpressible
from aind_data_transfer_service.slurmrest.job_properties import PROPERTIES
from aind_data_transfer_service.slurmrest.models import Submission


def written(version: int, **properties) -> dict:
    """Write a submission, and give the job in it."""
    submission = Submission("#!/bin/sh\n", properties, {"PATH": "/bin"})
    return Dialect(version).submission(submission)["job"]


class Choosing(unittest.TestCase):
    """Which dialect is spoken."""

    def test_the_newest_known_is_chosen(self) -> None:
        def among(*versions: int) -> Dialect:
            return Dialect.among(f"/slurm/v0.0.{number}/job/submit" for number in versions)

        self.assertEqual("v0.0.38", str(among(36, 38, 37)))
        self.assertEqual("v0.0.45", str(among(44, 45, 46)))
        self.assertEqual("v0.0.46", str(among(47, 46)))
        self.assertEqual("v0.0.36", str(among(35, 36)))
        self.assertEqual(Dialect(36, ""), among())
        self.assertEqual(Dialect(36, ""), Dialect.among(["/jobs", "/job/submit"]))
        self.assertEqual(Dialect(36, ""), Dialect.among(["/slurmdb/v0.0.38/jobs"]))

    def test_one_is_named(self) -> None:
        for name in ("slurm/v0.0.40", "/slurm/v0.0.40/", "v0.0.40"):
            self.assertEqual(Dialect(40, "/slurm/v0.0.40"), Dialect.named(name))
        self.assertEqual(Dialect(36, ""), Dialect.named("/"))
        self.assertEqual(Dialect(39, "/proxy/v0.0.39"), Dialect.named("proxy/v0.0.39"))
        self.assertEqual(Dialect(36, "/proxy"), Dialect.named("proxy"))
        self.assertEqual("/slurm/v0.0.40/job/17", Dialect.named("v0.0.40").path("job", 17))

    def test_a_time_in_a_query(self) -> None:
        moment = datetime(2024, 2, 19, 11, 25, 17, tzinfo=UTC)
        self.assertEqual("1708341917", Dialect(38).time(moment))
        self.assertEqual("uts1708341917", Dialect(39).time(moment))


class Writing(unittest.TestCase):
    """Names and forms."""

    def test_names_change_from_release_to_release(self) -> None:
        given = {"standard_out": "/o", "standard_in": "/i", "standard_error": "/e"}
        self.assertEqual(given, {k: v for k, v in written(36, **given).items() if k in given})
        for version in (37, 38, 39, 40, 42):
            job = written(version, **given)
            self.assertEqual(("/o", "/i"), (job["standard_output"], job["standard_input"]))
            self.assertNotIn("standard_out", job)
        for version in (36, 40):
            job = written(version, account_gather_freqency="task=30", cluster_constraints="x")
            self.assertEqual("task=30", job["account_gather_frequency"])
            self.assertEqual("x", job["cluster_constraint"])

    def test_the_environment(self) -> None:
        self.assertEqual({"PATH": "/bin"}, written(38)["environment"])
        self.assertEqual(
            ["PATH=/bin", "A=b=c"], written(40, environment={"A": "b=c"})["environment"][::-1]
        )

    def test_the_submissions_own_environment_goes_before_the_users(self) -> None:
        job = written(38, environment={"PATH": "/evil", "MORE": "1"})
        self.assertEqual({"PATH": "/bin", "MORE": "1"}, job["environment"])

    def test_older_forms(self) -> None:
        job = written(
            36,
            nodes=[1, 2],
            mail_type=["END", "FAIL"],
            time_limit=5,
            wait_all_nodes=True,
            no_kill=False,
            exclusive="true",
            get_user_environment=False,
            priority=7,
        )
        del job["environment"]
        self.assertEqual(
            {
                "nodes": "1-2",
                "mail_type": "END,FAIL",
                "time_limit": 5,
                "wait_all_nodes": 1,
                "no_kill": "off",
                "exclusive": "exclusive",
                "priority": "7",
            },
            job,
        )
        self.assertNotIn("exclusive", written(36, exclusive="false"))
        self.assertEqual("user", written(36, exclusive="user")["exclusive"])
        self.assertIs(True, written(38, requeue=True)["requeue"])
        self.assertIs(True, written(38, requeue=False)["no_requeue"])
        self.assertNotIn("requeue", written(38, requeue=False))
        self.assertEqual("ALL", written(36, mail_type="ALL")["mail_type"])

    def test_every_version_is_sent_a_range_of_nodes(self) -> None:
        for version in range(36, 43):
            for value, sent in (([2, 2], "2-2"), ((1, 4), "1-4"), (3, "3-3")):
                self.assertEqual(sent, written(version, nodes=value)["nodes"], version)

    def test_newer_forms(self) -> None:
        def number(value: int) -> dict:
            return {"set": True, "infinite": False, "number": value}

        cases = {
            ("nodes", (1, 2)): {"nodes": "1-2"},
            ("nodes", 3): {"nodes": "3-3"},
            ("time_limit", 5): {"time_limit": number(5)},
            ("memory_per_cpu", 8000): {"memory_per_cpu": number(8000)},
            ("memory_per_node", 8000): {"memory_per_node": number(8000)},
            ("mail_type", ("END",)): {"mail_type": ["END"]},
            ("mail_type", "all,END"): {"mail_type": ["BEGIN", "END", "FAIL", "REQUEUE"]},
            ("mail_type", "NONE"): {"mail_type": []},
            ("signal", "TERM"): {"kill_warning_signal": "TERM"},
            ("signal", "B:TERM@60"): {
                "kill_warning_signal": "TERM",
                "kill_warning_delay": number(60),
                "kill_warning_flags": ["BATCH_JOB"],
            },
            ("gres", "gpu:1,gres:ssd:2"): {"tres_per_node": "gres/gpu:1,gres/ssd:2"},
            ("gpus", "2"): {"tres_per_job": "gres/gpu:2"},
            ("begin_time", "1708341917"): {"begin_time": number(1708341917)},
            ("deadline", "2024-02-19T11:25:17+00:00"): {"deadline": 1708341917},
            ("exclusive", "true"): {"shared": ["none"]},
            ("exclusive", "false"): {},
            ("no_kill", True): {"kill_on_node_fail": False},
            ("open_mode", "append"): {"open_mode": ["APPEND"]},
            ("kill_on_invalid_dependency", False): {"flags": ["NO_KILL_INVALID_DEPENDENCY"]},
            ("spread_job", False): {},
            ("gres_flags", "enforce-binding"): {"flags": ["GRES_BINDING_ENFORCED"]},
            ("comment", "as it is"): {"comment": "as it is"},
        }
        for (name, value), wanted in cases.items():
            with self.subTest(name=name, value=value):
                job = written(40, **{name: value})
                del job["environment"]
                self.assertEqual(wanted, job)

    def test_flags_and_resources_add_up(self) -> None:
        job = written(42, spread_job=True, minimum_nodes=True, gres="ssd:1", gpus_per_node="2")
        self.assertEqual({"SPREAD_JOB", "PREFER_MINIMUM_NODE_COUNT"}, set(job["flags"]))
        self.assertEqual("gres/ssd:1,gres/gpu:2", job["tres_per_node"])

    def test_all_that_a_dialect_cannot_say_is_listed_before_anything_is_sent(self) -> None:
        asked = {
            "argv": ["a"],
            "cpu_binding": "cores",
            "cpu_binding_hint": "nomultithread",
            "priority": 7,
            "tasks": 2,
            "cores_per_socket": 1,
            "begin_time": "now+1hour",
        }
        for version, wrong in (
            (36, ["argv", "cpu_binding", "cpu_binding_hint", "priority"]),
            (38, ["argv", "cpu_binding"]),
            (40, ["cpu_binding_hint", "begin_time"]),
            (42, ["cpu_binding_hint", "cores_per_socket", "begin_time"]),
        ):
            problems = Dialect(version).problems(asked)
            self.assertEqual(wrong, [text.partition(":")[0] for text in problems])

    def test_what_a_dialect_cannot_say_is_refused_by_name(self) -> None:
        cases = (
            (38, "argv", ["a"]),
            (36, "signal", "B:TERM@60"),
            (38, "signal", "rb:TERM"),
            (40, "cpu_binding_hint", "x"),
            (42, "get_user_environment", True),
            (41, "cores_per_socket", 1),
            (40, "begin_time", "now+1hour"),
        )
        for version, name, value in cases:
            with self.assertRaisesRegex(NotExpressible, f"^{name}: "):
                written(version, **{name: value})
        self.assertEqual("TERM@60", written(38, signal="TERM@60")["signal"])
        self.assertEqual(1, written(40, cores_per_socket=1)["cores_per_socket"])
        self.assertEqual(["a"], written(40, argv=["a"])["argv"])
        self.assertIn("environment", PROPERTIES)


if __name__ == "__main__":
    unittest.main()
