"""The visitor of the service: what it makes of the answers."""

import json
import unittest
from collections.abc import Callable

import httpx

from aind_data_transfer_service.demo.client import JobView, ServiceClient
from aind_data_transfer_service.demo.service import DemoError


def client(answer: Callable[[httpx.Request], httpx.Response]) -> ServiceClient:
    """Make a visitor of a service that answers so."""
    return ServiceClient("http://service", httpx.MockTransport(answer))


def envelope(status: int, message: str, data: object) -> httpx.Response:
    """Wrap an answer as the service does."""
    return httpx.Response(status, json={"message": message, "data": data})


class Asking(unittest.TestCase):
    """Requests and answers."""

    def test_a_submission_gives_the_ids_of_its_jobs(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            self.assertEqual({"jobs": ["{}"]}, json.loads(request.content))
            return envelope(200, "Submitted Jobs.", {"responses": [{"job_id": "a1"}], "errors": []})

        with client(answer) as visitor:
            self.assertEqual(["a1"], visitor.submit(["{}"]))

    def test_a_job_is_followed_until_it_ends(self) -> None:
        states = iter(("PENDING", "RUNNING", "COMPLETED", "never asked for"))
        visitor = client(
            lambda _: envelope(200, "Job", {"job": {"state": next(states)}, "events": []})
        )
        seen = [view.job["state"] for view in visitor.follow("a1", interval=0)]
        self.assertEqual(["PENDING", "RUNNING", "COMPLETED"], seen)

    def test_a_job_that_never_ends_is_an_error_in_time(self) -> None:
        visitor = client(lambda _: envelope(200, "", {"job": {"state": "RUNNING"}, "events": []}))
        with self.assertRaisesRegex(DemoError, "job a1 had not ended after 0 s"):
            list(visitor.follow("a1", interval=0, seconds=0))

    def test_a_job_is_known_by_its_name(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            return envelope(200, "", {"total": int(request.url.params["text"] == "here")})

        visitor = client(answer)
        self.assertEqual((True, False), (visitor.knows("here"), visitor.knows("nowhere")))

    def test_refusals_are_told_with_every_error(self) -> None:
        refusal = envelope(406, "There were errors", {"errors": ["row 2: no", "row 3: no"]})
        with self.assertRaisesRegex(DemoError, "There were errors: row 2: no; row 3: no"):
            client(lambda _: refusal).validate("a.csv", b"")

    def test_a_refusal_without_a_list_is_told_as_it_is(self) -> None:
        with self.assertRaisesRegex(DemoError, "^no such job$"):
            client(lambda _: envelope(404, "no such job", None)).cancel("a1")

    def test_an_answer_of_somebody_else_is_an_error(self) -> None:
        with self.assertRaisesRegex(DemoError, "answer 502 is not the service's own"):
            client(lambda _: httpx.Response(502, text="Bad Gateway")).job("a1")

    def test_a_silent_service_is_an_error(self) -> None:
        def answer(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

        with self.assertRaisesRegex(DemoError, "GET /api/jobs/a1: the service does not answer"):
            client(answer).job("a1")


class Viewing(unittest.TestCase):
    """What a job's events say."""

    def test_figures_are_those_of_the_steps_end(self) -> None:
        events = [
            {"step": "verify", "kind": "start", "figures": {}},
            {"step": "verify", "kind": "end", "figures": {"files": 3}},
            {"step": "done", "kind": "end", "figures": {"files": 4}},
        ]
        view = JobView({"state": "COMPLETED"}, events)
        self.assertEqual(({"files": 3}, {}), (view.figures("verify"), view.figures("transfer")))
        self.assertTrue(view.completed)
