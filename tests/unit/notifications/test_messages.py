"""What messages say, and on what occasions."""

import json
import unittest
from datetime import timedelta
from zoneinfo import ZoneInfo

from aind_data_transfer_service.jobs.notification_events import Occasion, is_wanted, occasion_of
from aind_data_transfer_service.jobs.states import TRANSITIONS, JobState
from aind_data_transfer_service.notifications.messages import Message, compose
from aind_data_transfer_service.notifications.webhook import plain_body, slack_body, teams_body
from tests.support.jobs import NOON, a_job

ZONE = ZoneInfo("America/Los_Angeles")


def a_message(state: JobState = JobState.FAILED, reason: str = "no room", **values) -> Message:
    """Write a message about a job."""
    occasion = occasion_of(JobState.RUNNING, state)
    url = "https://transfer.example.org/"
    return compose(a_job(state=state, **values), occasion, state, reason, url, ZONE)


class Occasions(unittest.TestCase):
    """Which changes are told."""

    def test_each_change_of_state_is_the_occasion_that_slurm_calls_it(self) -> None:
        for before, after, expected in (
            (JobState.SUBMITTED, JobState.PENDING, None),
            (JobState.PENDING, JobState.RUNNING, Occasion.BEGIN),
            (JobState.RUNNING, JobState.PENDING, Occasion.REQUEUE),
            (JobState.RUNNING, JobState.RUNNING, None),
            (JobState.RUNNING, JobState.COMPLETED, Occasion.END),
            (JobState.PENDING, JobState.COMPLETED, Occasion.END),
            (JobState.SUBMITTED, JobState.FAILED, Occasion.FAIL),
            (JobState.RUNNING, JobState.TIMEOUT, Occasion.FAIL),
            (JobState.PENDING, JobState.CANCELLED, Occasion.FAIL),
            (JobState.RUNNING, JobState.UNKNOWN, Occasion.FAIL),
        ):
            with self.subTest(f"{before} {after}"):
                self.assertIs(expected, occasion_of(before, after))

    def test_every_state_that_a_job_can_reach_has_its_words(self) -> None:
        for before, states in TRANSITIONS.items():
            for after in states:
                if occasion := occasion_of(before, after):
                    message = compose(a_job(state=after), occasion, after, "", None, ZONE)
                    self.assertTrue(message.headline)

    def test_end_asks_for_bad_ends_too(self) -> None:
        self.assertTrue(is_wanted(Occasion.FAIL, {"END"}))
        self.assertFalse(is_wanted(Occasion.END, {"FAIL"}))
        self.assertFalse(is_wanted(Occasion.BEGIN, {"END", "FAIL"}))
        self.assertTrue(all(is_wanted(occasion, {"ALL"}) for occasion in Occasion))


class Texts(unittest.TestCase):
    """What a person reads."""

    def test_what_followed_the_upload_is_told_where_it_is_known(self) -> None:
        told = {"analysis": "FAILED", "analysis_reason": "no such capsule"}
        link = "https://co.example.org/data-assets/1"
        facts = dict(a_message(JobState.COMPLETED, "", **told, data_asset_link=link).facts)
        self.assertEqual("FAILED: no such capsule", facts["Analysis"])
        self.assertEqual(link, facts["Data asset"])
        self.assertNotIn("Registration", facts)

    def test_a_message_has_what_a_person_needs(self) -> None:
        message = a_message(
            name="ecephys_690165_2024-02-19_11-25-17",
            location="s3://bucket/ecephys_690165_2024-02-19_11-25-17",
            started_at=NOON,
            ended_at=NOON + timedelta(minutes=90),
            bytes_done=2_500_000,
            bytes_total=10_000_000,
            files_done=1,
            files_total=1200,
            exit_code=15,
        )
        self.assertEqual("FAILED: ecephys_690165_2024-02-19_11-25-17", message.subject)
        for words in (
            "The job failed.",
            "Reason: no room",
            "Asset: s3://bucket/ecephys_690165_2024-02-19_11-25-17",
            "Took: 1 h 30 min",
            "Sent: 1 of 1,200 files, 2.50 MB of 10.0 MB",
            "Exit code: 15",
            "https://transfer.example.org/jobs/",
        ):
            self.assertIn(words, message.text)
        self.assertRegex(message.text, r"Started: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d P[SD]T")

    def test_no_text_of_a_job_adds_a_line(self) -> None:
        message = a_message(reason="a\nState: COMPLETED\r\n\u2028b", name="x\r\nBcc: all@y.org")
        self.assertEqual("FAILED: x Bcc: all@y.org", message.subject)
        self.assertIn("Reason: a State: COMPLETED b\n", message.text)

    def test_no_text_of_a_job_steers_a_terminal_or_turns_letters_round(self) -> None:
        message = a_message(reason="a\x1b[2Jb\u202ec\x00d\ud800", name="x\x07")
        self.assertEqual("FAILED: x", message.subject)
        self.assertIn("Reason: a [2Jb c d\n", message.text)

    def test_a_script_that_ended_well_brought_no_asset(self) -> None:
        self.assertNotIn("asset", a_message(JobState.COMPLETED, "", location="").text.lower())


class Bodies(unittest.TestCase):
    """What a webhook takes."""

    def test_every_form_is_json_and_has_the_link(self) -> None:
        for body in (plain_body, slack_body, teams_body):
            text = json.dumps(body(a_message()))
            self.assertIn("https://transfer.example.org/jobs/", text)
            self.assertIn("no room", text)

    def test_slack_is_shown_what_people_wrote_and_no_markup(self) -> None:
        text = slack_body(a_message(reason="<!channel> & <http://x|y>"))["blocks"][0]["text"][
            "text"
        ]
        self.assertIn("&lt;!channel&gt; &amp; &lt;http://x|y&gt;", text)

    def test_slack_is_not_sent_more_than_it_takes(self) -> None:
        text = slack_body(a_message(reason="x" * 9000))["blocks"][0]["text"]["text"]
        self.assertEqual(3000, len(text))

    def test_teams_is_sent_a_card_that_shows_what_is_bad(self) -> None:
        card = teams_body(a_message())["attachments"][0]["content"]
        self.assertEqual("Attention", card["body"][0]["color"])
        self.assertEqual("Action.OpenUrl", card["actions"][0]["type"])
