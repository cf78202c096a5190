"""Messages for Slurm's reasons: whether a job starts by itself, and what to do."""

import unittest
from pathlib import Path

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.executors.slurm.state_reasons import (
    UNKNOWN,
    UNKNOWN_FAILURE,
    pending_messages,
    waiting_reason,
)
from aind_data_transfer_service.executors.slurm.states import run_status
from aind_data_transfer_service.slurmrest.parsing import read_job, read_listing

_RECORDED = Path(__file__).with_name("recorded_reasons.txt")
OUTLOOK = (
    "starts by itself|starts only|cannot (start|end)|can never start|may not start by itself"
    "|there is nothing to do|asks for an immediate start"
)


def recorded() -> list[str]:
    """Return the recorded names of reasons."""
    lines = _RECORDED.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def said(state: str = "PENDING", **fields) -> str:
    """Return the message for a job as slurmrestd lists it."""
    job = read_job({"job_id": 7, "job_state": state} | fields)
    assert job is not None
    return run_status("7:a", job).reason


class Pending(unittest.TestCase):
    """Why a job is pending."""

    def test_every_recorded_reason_says_whether_the_job_starts(self) -> None:
        names = recorded()
        self.assertGreater(len(names), 200)
        for name in names:
            with self.subTest(name):
                message = said(state_reason=name)
                self.assertNotIn(UNKNOWN, message)
                self.assertRegex(message, OUTLOOK)
                if name != "None":
                    self.assertTrue(message.endswith(f"; Slurm: {name}"))

    def test_a_job_that_needs_somebody_says_whom(self) -> None:
        for message in pending_messages():
            if "cannot start" in message or "starts only" in message:
                with self.subTest(message):
                    self.assertRegex(message, "submit it again|administrator")

    def test_limits_are_told_apart_by_what_ends_the_wait(self) -> None:
        together, alone = "when enough of them end", "for one job; cancel"
        for reason, words in {
            "AssocGrpCpuLimit": together,
            "QOSGrpBBRunMinutes": together,
            "AssocGrpGRESMinutes": "used up a limit on time",
            "QOSGrpCPUMinutesLimit": "used up a limit on time",
            "AssocMaxJobsLimit": together,
            "QOSMaxJobsPerUserLimit": together,
            "QOSMaxMemoryPerUser": together,
            "MaxJobsPerAccount": together,
            "MaxCpuRunMinsPerUser": together,
            "AssocMaxWallDurationPerJobLimit": alone,
            "QOSMaxCpuMinutesPerJobLimit": alone,
            "QOSMaxMemoryPerNode": alone,
            "QOSMinGRES": "less than the minimum of its QOS",
        }.items():
            with self.subTest(reason):
                self.assertIn(words, said(state_reason=reason))

    def test_a_reason_of_a_later_version_is_shown_as_it_is(self) -> None:
        message = said(state_reason="MoonPhase", state_description="full moon")
        self.assertEqual(f"{UNKNOWN}; Slurm: full moon", message)
        self.assertEqual(f"{UNKNOWN}; Slurm: MoonPhase", said(state_reason="MoonPhase"))

    def test_slurms_own_description_counts_and_is_shown(self) -> None:
        down = "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority"
        for reason, description, words in (
            ("Resources", down, "waits for nodes that are down, drained or reserved"),
            (down.replace(" ", "_"), "", "waits for nodes that are down, drained or reserved"),
            (
                "ReqNodeNotAvail",
                "ReqNodeNotAvail, UnavailableNodes:n[1-3]",
                "needs a cluster admin",
            ),
            ("ReqNodeNotAvail, UnavailableNodes:n[1-3]", "", "needs a cluster admin"),
            ("ReqNodeNotAvail", "ReqNodeNotAvail, Reserved for maintenance", "for maintenance"),
            ("JobHeldUser", "launch failed requeued held", "could not be launched"),
            ("JobHeldAdmin", "job_requeued_in_held_state", "requeued and held"),
        ):
            with self.subTest(description or reason):
                message = said(state_reason=reason, state_description=description)
                self.assertIn(words, message)
                self.assertTrue(message.endswith(f"; Slurm: {description or reason}"))

    def test_a_description_is_read_from_a_long_list_too(self) -> None:
        listing = read_listing(
            b'{"jobs": [{"job_id": 7, "job_state": ["PENDING"], "state_reason": "ReqNodeNotAvail",'
            b' "state_description": "ReqNodeNotAvail, UnavailableNodes:node[1-3]"}]}'
        )
        assert listing is not None
        self.assertIn("UnavailableNodes:node[1-3]", said(**listing["jobs"][0]))

    def test_a_description_stays_on_one_line_and_without_secrets(self) -> None:
        message = waiting_reason("Resources", "first\nsecond https://me:hunter2@host")
        self.assertIn("first second", message)
        self.assertNotIn("hunter2", message)


class Failed(unittest.TestCase):
    """Why Slurm ended a job."""

    def test_a_reason_says_what_to_do(self) -> None:
        for reason, words in {
            "PartitionDown": "failed: its partition went down; resubmit it",
            "BadConstraints": "failed: it asks for what no node has; resubmit it with other",
            "SystemFailure": "ask a cluster administrator if it happens again; Slurm: SystemF",
            "InvalidQOS": "failed: its account or QOS is not valid",
        }.items():
            with self.subTest(reason):
                self.assertIn(words, said("FAILED", state_reason=reason))

    def test_an_unknown_reason_is_shown_as_it_is(self) -> None:
        message = said("FAILED", state_reason="Odd", state_description="Prolog failed on node n1")
        self.assertEqual(f"{UNKNOWN_FAILURE}; Slurm: Prolog failed on node n1", message)

    def test_the_state_is_the_same(self) -> None:
        job = read_job({"job_id": 7, "job_state": "FAILED", "state_reason": "NodeDown"})
        assert job is not None
        self.assertIs(run_status("7:a", job).state, RunState.FAILED)
