"""What the client makes of answers that real daemons do not give on demand."""

import json
import ssl
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.errors import (
    AnswerLost,
    Busy,
    NoSuchJob,
    NotSlurm,
    Refused,
    SlurmError,
    Unauthorised,
    Unconfirmed,
    Unreachable,
)
from aind_data_transfer_service.slurmrest.tokens import FileToken, FixedToken
from tests.support import free_port, slow
from tests.support.slurm_client_contract import a_submission
from tests.support.slurm_faults import Fault, FaultyServer, Reply
from tests.unit.slurmrest.builders import a_jwt

HTML = "text/html; charset=utf-8"
PAGE = b"<html><title>502 Bad Gateway</title></html>"


def errors(*entries: dict, status: int = 500, **content) -> Reply:
    """Build an answer with a list of errors."""
    return Reply(status, {"meta": {}, "errors": list(entries), **content})


class _WithServer(unittest.IsolatedAsyncioTestCase):
    async def talk(self, *answers, token=None, dialect="slurm/v0.0.38", **options) -> SlurmClient:
        """Start a server, and make a client of it."""
        self.server = await self.enterAsyncContext(FaultyServer(*answers))
        token = token or FixedToken(a_jwt())
        client = SlurmClient(self.server.url, "some.user", token, dialect=dialect, **options)
        return await self.enterAsyncContext(client)

    async def asking(self, *answers, **options) -> SlurmError:
        """Ask for the jobs, and give the error."""
        client = await self.talk(*answers, **options)
        with self.assertRaises(SlurmError) as caught:
            await client.jobs()
        self.assertNotIn("\n", str(caught.exception))
        return caught.exception

    async def submitting(self, *answers, **options) -> SlurmError:
        """Submit a job, which is sent no more than once, and give the error."""
        client = await self.talk(*answers, **options)
        with self.assertRaises(SlurmError) as caught:
            await client.submit(a_submission("exit 0"))
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(1, len([one for one in self.server.seen if one.method == "POST"]))
        return caught.exception


class Connections(_WithServer):
    """Nobody is there, or they hang up."""

    async def test_nobody_listens(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        async with SlurmClient(url, "u", FixedToken("t"), dialect="slurm/v0.0.38") as client:
            for ask in (client.jobs, lambda: client.submit(a_submission("exit 0"))):
                with self.assertRaisesRegex(
                    Unreachable, "nothing was sent.*HPC_URL .or HPC_HOST and HPC_PORT"
                ):
                    await ask()

    @slow
    async def test_a_lost_answer_to_a_submission_is_told_as_such(self) -> None:
        for fault in (Fault.CLOSE, Fault.RESET, Fault.CUT, Fault.HANG):
            with self.subTest(fault):
                error = await self.submitting(fault, timeout=0.3)
                self.assertIsInstance(error, AnswerLost)
                self.assertIn("it may have been carried out", str(error))

    @slow
    async def test_a_lost_answer_to_a_question_is_only_unreachable(self) -> None:
        for fault in (Fault.CLOSE, Fault.RESET, Fault.CUT, Fault.HANG):
            with self.subTest(fault):
                self.assertIsInstance(await self.asking(fault, timeout=0.3), Unreachable)

    async def test_a_question_on_a_connection_gone_stale_is_asked_again(self) -> None:
        client = await self.talk(Fault.CLOSE, Reply(body={"jobs": [{"job_id": 7}]}))
        self.assertEqual([7], [job.job_id for job in await client.jobs()])

    async def test_an_answer_without_a_job_id_is_a_lost_one(self) -> None:
        self.assertIsInstance(await self.submitting(Reply(body={"errors": []})), AnswerLost)

    @slow
    async def test_https_is_spoken_and_a_certificate_nobody_knows_is_not_trusted(self) -> None:
        server = await self.enterAsyncContext(FaultyServer(Reply()))
        url = server.url.replace("http:", "https:")
        async with SlurmClient(url, "u", FixedToken("t"), dialect="/", timeout=2) as client:
            with self.assertRaises(Unreachable):
                await client.jobs()

    async def test_a_file_of_certificates_that_is_none_is_named(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "ca.pem"
            for text in (None, "no certificate"):
                if text:
                    path.write_text(text)
                with self.assertRaisesRegex(Unreachable, f"HPC_CA_FILE: {path}"):
                    SlurmClient("https://localhost", "u", FixedToken("t"), ca=path)
        bundle = ssl.get_default_verify_paths().cafile
        if bundle and Path(bundle).exists():
            async with SlurmClient("https://localhost", "u", FixedToken("t"), ca=Path(bundle)):
                pass


class OtherServers(_WithServer):
    """Something answers that is not slurmrestd."""

    async def test_a_page_of_a_proxy(self) -> None:
        for status in (502, 503, 504):
            page = Reply(status, PAGE, HTML)
            error = await self.asking(page)
            self.assertIsInstance(error, Unreachable)
            self.assertIn(f"{status} text/html: <html><title>502 Bad", str(error))
            self.assertIsInstance(await self.submitting(page), AnswerLost)

    async def test_a_login_page_is_not_slurm(self) -> None:
        for status in (200, 404, 405):
            page = Reply(status, PAGE, HTML)
            self.assertIsInstance(await self.asking(page), NotSlurm)
            error = await self.submitting(page)
            self.assertIsInstance(error, NotSlurm)
            self.assertIn("HPC_API_ENDPOINT", str(error))

    async def test_it_points_elsewhere(self) -> None:
        moved = Reply(302, b"", "text/html", {"Location": "https://login.example.org/"})
        self.assertIn("points to https://login.example.org/", str(await self.submitting(moved)))

    async def test_forbidden(self) -> None:
        self.assertIsInstance(await self.asking(Reply(403, PAGE, HTML)), Unauthorised)

    async def test_json_of_another_service_is_no_empty_list_of_jobs(self) -> None:
        for body in ({"message": "hello"}, {"jobs": None}, {"jobs": {"1": "x"}}):
            error = await self.asking(Reply(200, body))
            self.assertIsInstance(error, NotSlurm)
            self.assertIn("without a list of jobs", str(error))

    async def test_json_that_is_no_object_and_json_without_end(self) -> None:
        for body in (b"[]", b"null", b"7", b"[" * 100_000, b"\xff\xfe", b""):
            self.assertIsInstance(await self.asking(Reply(200, body)), NotSlurm)
            self.assertIsInstance(await self.submitting(Reply(200, body)), AnswerLost)


class WordsOfSlurm(_WithServer):
    """Slurm's own list of errors, in all its spellings."""

    async def test_a_refusal_keeps_what_slurm_said(self) -> None:
        error = await self.submitting(errors({"error_code": 2000, "error": "Invalid partition"}))
        self.assertIsInstance(error, Refused)
        self.assertEqual("Slurm refuses: Invalid partition (2000)", str(error))
        self.assertEqual((500, 2000), (error.status, error.complaints[0].number))
        self.assertIn("errors", error.answer)

    async def test_an_error_is_an_error_whatever_the_status(self) -> None:
        told = errors({"error": "no", "errno": 9}, status=200, jobs=[], job_id=0)
        self.assertIsInstance(await self.submitting(told), Refused)
        self.assertIsInstance(await self.asking(told), Refused)

    async def test_an_error_with_a_status_of_success_and_no_id_leaves_the_job_in_doubt(
        self,
    ) -> None:
        for number, meaning in (
            (2000, Refused),
            (11, Busy),
            (1800, Unreachable),
            (1007, Unauthorised),
        ):
            told = errors({"error": "words", "error_number": number}, status=200)
            error = await self.submitting(told, token=FixedToken(a_jwt()))
            self.assertIsInstance(error, Unconfirmed)
            self.assertIs(meaning, type(error.meaning))
            self.assertIn("words", str(error))
        told = errors({"error": "time-out", "error_number": 5004}, status=200)
        self.assertIsInstance(await self.submitting(told), AnswerLost)

    async def test_what_sbatch_would_submit_again_is_no_refusal_for_good(self) -> None:
        for number in (11, 1804, 1805, 2007, 2016, 2027, 2059, 2061, 2131):
            for name in ("error_code", "error_number", "errno"):
                error = await self.submitting(errors({name: number, "error": "words"}))
                self.assertIsInstance(error, Busy)
                self.assertIn("the service sends it again (Slurm says: words", str(error))
                self.assertEqual((number, 500), (error.complaints[0].number, error.status))
        wordy = errors({"error": "Resource temporarily unavailable"}, status=503)
        self.assertIsInstance(await self.submitting(wordy), Busy)
        for other in (
            errors({"error_code": 2050, "error": "Job violates accounting/QOS policy"}),
            errors({"error_code": 11, "error": "x"}, {"error_code": 2000, "error": "y"}),
        ):
            self.assertIs(Refused, type(await self.submitting(other)))
        self.assertIs(Refused, type(await self.asking(errors({"error_code": 11, "error": "x"}))))

    async def test_a_job_with_an_id_is_accepted_whatever_is_said_of_it(self) -> None:
        client = await self.talk(errors({"error_code": 2042, "error": "held"}, job_id=5))
        submitted = await client.submit(a_submission("exit 0"))
        self.assertEqual((5, ("held (2042)",)), (submitted.slurm_id, submitted.complaints))

    async def test_every_spelling_of_an_error_is_read(self) -> None:
        said = await self.asking(
            errors(
                {"description": 'Unknown key "x"', "source": "hsearch_r"},
                {"description": "Failed while looking", "error_number": 77, "error": "Bad luck"},
                {"error": "one\nline", "error_code": 0},
                {},
                "bare words",
                status=400,
            )
        )
        self.assertEqual(
            'Slurm refuses: Unknown key "x"; Bad luck: Failed while looking (77); one line; '
            "an error without words; bare words",
            str(said),
        )

    async def test_slurmctld_cannot_be_reached_so_nothing_was_done(self) -> None:
        words = "Unable to contact slurm controller (connect failure)"
        error = await self.submitting(errors({"error_code": 1800, "error": words}))
        self.assertIsInstance(error, Unreachable)
        self.assertIn("is slurmctld running?", str(error))

    async def test_slurmctld_did_not_answer_so_nobody_knows(self) -> None:
        for complaint in (
            {"error_code": 5005, "error": "Zero Bytes were transmitted or received"},
            {"error_code": 5004, "error": "Socket timed out on send/recv operation"},
            {"error_number": -1, "error": "Unspecified error", "description": "Failed"},
            {"error_code": 104, "error": "Connection reset by peer"},
            {"error_code": 111, "error": "Connection refused"},
            {"error_code": 1003, "error": "Message receive failure"},
            {"error_code": 1025, "error": "Component is shutting down"},
        ):
            answer = errors(complaint)
            self.assertIsInstance(await self.submitting(answer), AnswerLost)
            self.assertIsInstance(await self.asking(answer), Unreachable)

    async def test_an_empty_list_of_jobs_that_comes_with_500_is_no_empty_list(self) -> None:
        error = await self.asking(errors(jobs=[]))
        self.assertIsInstance(error, Unreachable)
        self.assertIn("500 without a reason", str(error))

    async def test_a_job_is_unknown_only_where_the_controller_is_there(self) -> None:
        unknown = errors({"error": "_handle_job_get: unknown job 9", "error_code": 0})
        up = Reply(body={"pings": [{"hostname": "h", "ping": "UP"}]})
        client = await self.talk(unknown, up, unknown, errors())
        self.assertIsNone(await client.job(9))
        with self.assertRaises(Unreachable):
            await client.job(9)
        numbered = errors({"error_number": 2017, "error": "Invalid job id specified"})
        client = await self.talk(numbered)
        self.assertIsNone(await client.job(9))
        self.assertFalse(await client.cancel(9))
        self.assertEqual(2, len(self.server.seen))
        self.assertTrue(issubclass(NoSuchJob, Refused))

    async def test_a_signal_and_a_time_go_with_the_request(self) -> None:
        client = await self.talk(Reply())
        self.assertTrue(await client.cancel(9, "SIGTERM"))
        self.assertEqual("/slurm/v0.0.38/job/9?signal=SIGTERM", self.server.seen[0].path)

    async def test_what_later_releases_say_of_each_cancelled_job_is_read(self) -> None:
        def status(code: int, text: str) -> Reply:
            return Reply(
                body={"errors": [], "status": [{"error": {"code": code, "message": text}}]}
            )

        client = await self.talk(
            status(0, ""), status(2021, "Job/step already completed"), status(2002, "Access denied")
        )
        self.assertTrue(await client.cancel(9))
        self.assertFalse(await client.cancel(9))
        with self.assertRaisesRegex(SlurmError, "Access denied"):
            await client.cancel(9)

    async def test_a_long_answer_is_read_whole(self) -> None:
        jobs = [{"job_id": n, "job_state": "RUNNING", "comment": "x" * 200} for n in range(1, 3000)]
        client = await self.talk(Reply(body={"jobs": jobs, "errors": []}))
        self.assertEqual(2999, len(await client.jobs()))


class WhatWasSent(_WithServer):
    """A refusal names the properties that it is about, as they were sent."""

    async def refusal(self, *complaints: dict, status: int = 400, **properties: Any) -> str:
        """Submit a job that real servers refuse so."""
        answer = Reply(status, {"errors": list(complaints), "job_id": 0})
        client = await self.talk(answer)
        with self.assertRaises(Refused) as caught:
            await client.submit(a_submission("exit 0", **properties))
        return str(caught.exception)

    async def test_errors_of_parsing_name_what_was_sent(self) -> None:
        last = {"error_code": 9001, "error": "Failure during parsing"}
        for first in (
            {"error": "process failed for key time_limit with error: Unspecified error"},
            {"description": 'Unable to process key "time_limit"', "error": "Unspecified error"},
            {"description": "Expected integer", "source": "#/job/time_limit/", "error": "Data"},
        ):
            said = await self.refusal(first, last, time_limit="soon", tasks=2)
            self.assertTrue(said.endswith('; sent: time_limit "soon"'), said)

    async def test_an_error_of_parsing_without_a_name_lists_all(self) -> None:
        last = {"error_code": 9001, "error": "Failure during parsing"}
        said = await self.refusal(last, gres="nope:1", comment="hidden", tasks=2)
        self.assertIn('gres "nope:1"', said)
        self.assertIn("tasks 2", said)
        self.assertNotIn("hidden", said)
        self.assertNotIn("PATH", said)

    async def test_slurms_own_errors_name_the_properties_that_they_are_about(self) -> None:
        error = {"error_code": 2014, "error": "Requested node configuration is not available"}
        said = await self.refusal(error, status=500, memory_per_node=10**9, qos="x", tasks=3)
        self.assertRegex(said, "sent: nodes .*tasks 3, memory_per_node 1000000000$")
        error = {"error_code": 2000, "error": "Invalid partition name specified"}
        said = await self.refusal(error, status=500, partition="x" * 500)
        self.assertLess(len(said), 250)
        self.assertIn('sent: partition "xxx', said)

    async def test_a_refusal_about_nothing_that_was_sent_says_no_more(self) -> None:
        error = {"error_code": 2045, "error": "Invalid account"}
        self.assertNotIn("sent:", await self.refusal(error, status=500))


class Tokens(_WithServer):
    """A token is not accepted."""

    DENIED = Reply(401, b"Authentication failure", "text/plain")

    async def test_who_asks_stands_in_the_head(self) -> None:
        token = a_jwt()
        client = await self.talk(Reply(), token=FixedToken(token))
        await client.jobs()
        head = self.server.seen[0].headers
        self.assertEqual(
            ("some.user", token), (head["x-slurm-user-name"], head["x-slurm-user-token"])
        )

    async def test_a_fixed_token_is_tried_once(self) -> None:
        error = await self.submitting(self.DENIED, token=FixedToken(a_jwt(exp=1)))
        self.assertIsInstance(error, Unauthorised)
        self.assertIn("ended at 1970-01-01 00:00:01 UTC", str(error))
        self.assertIn("scontrol token", str(error))
        error = await self.submitting(self.DENIED, token=FixedToken(a_jwt()))
        self.assertIn("is it HPC_USERNAME's", str(error))
        self.assertIsInstance(
            await self.asking(errors({"error_number": 1007, "error": "Protocol error"})),
            Unauthorised,
        )

    async def test_another_users_token_is_recognised(self) -> None:
        others = FixedToken(a_jwt(sun="anna"))
        silence = errors({"error": "Zero Bytes were transmitted or received", "error_code": 5005})
        protocol = errors({"error_number": 1007, "error": "Protocol authentication error"})
        for answer, kind in (
            (self.DENIED, Unauthorised),
            (protocol, Unauthorised),
            (silence, AnswerLost),  # slurmctld may be away instead: the job may have been accepted
        ):
            error = await self.submitting(answer, token=others)
            self.assertIsInstance(error, kind)
            self.assertIn('the user "anna" and not for HPC_USERNAME ("some.user")', str(error))
            self.assertIn("scontrol token username=some.user", str(error))
        error = await self.asking(silence, token=others)
        self.assertIsInstance(error, Unreachable)
        self.assertIn('which is for the user "anna"', str(error))
        for token in (a_jwt(), a_jwt(sun=None), a_jwt(sun=5), a_jwt(sun="anna", exp=1)):
            error = await self.submitting(self.DENIED, token=FixedToken(token))
            self.assertNotIn("is for the user", str(error))

    async def test_no_error_shows_the_token(self) -> None:
        for answer in (self.DENIED, errors(), Reply(502, PAGE, HTML), Fault.CLOSE):
            token = a_jwt()
            self.assertNotIn(token, str(await self.asking(answer, token=FixedToken(token))))

    async def test_a_fresh_token_is_tried_once(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "token"
            first, second = a_jwt(sub="first"), a_jwt(sub="second")
            for denied in (self.DENIED, errors(jobs=[])):
                path.write_text(first)
                client = await self.talk(denied, Reply(), token=_Rewritten(path, second))
                self.assertEqual([], await client.jobs())
                tokens = [one.headers["x-slurm-user-token"] for one in self.server.seen]
                self.assertEqual([first, second], tokens)

    async def test_a_fresh_token_that_is_the_same_is_not_tried(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "token"
            path.write_text(a_jwt())
            for denied, kind in ((self.DENIED, Unauthorised), (errors(jobs=[]), Unreachable)):
                self.assertIsInstance(await self.asking(denied, token=FileToken(path)), kind)
                self.assertEqual(1, len(self.server.seen))

    async def test_a_submission_goes_again_only_where_the_token_was_rejected_for_sure(self) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "token"
            path.write_text(a_jwt())
            accepted = Reply(body={"job_id": 3})
            client = await self.talk(self.DENIED, accepted, token=_Rewritten(path, a_jwt(sub="x")))
            self.assertEqual(3, (await client.submit(a_submission("exit 0"))).slurm_id)
            path.write_text(a_jwt())
            silence = errors({"error_code": 5005, "error": "Zero Bytes"})
            source = _Rewritten(path, a_jwt(sub="y"))
            self.assertIsInstance(await self.submitting(silence, token=source), AnswerLost)


class Dialects(_WithServer):
    """Which paths are used."""

    async def test_the_server_is_asked_once_for_what_it_speaks(self) -> None:
        paths = [f"/slurm/v0.0.{n}/job/submit" for n in (44, 40, 45, 46)]
        listed = Reply(body={"paths": dict.fromkeys(paths, {})})
        client = await self.talk(listed, Reply(), dialect=None)
        await client.jobs()
        await client.ping()
        wanted = ["/openapi/v3", "/slurm/v0.0.45/jobs", "/slurm/v0.0.45/ping"]
        self.assertEqual(wanted, [one.path for one in self.server.seen])

    async def test_a_server_that_lists_nothing_has_its_paths_at_the_root(self) -> None:
        nowhere = Reply(404, b"not found", "text/plain")
        client = await self.talk(nowhere, nowhere, Reply(), dialect=None)
        await client.jobs()
        wanted = ["/openapi/v3", "/openapi", "/jobs"]
        self.assertEqual(wanted, [one.path for one in self.server.seen])
        client = await self.talk(Reply(body={"paths": ["odd"]}), Reply(), dialect=None)
        await client.jobs()
        self.assertEqual("/jobs", self.server.seen[-1].path)

    async def test_states_are_asked_for_if_the_server_lists_them(self) -> None:
        paths = ["/slurm/v0.0.42/job/submit", "/slurm/v0.0.42/jobs/state/"]
        states = [{"job_id": "7", "state": ["RUNNING", "COMPLETING"]}]
        answers = (Reply(body={"jobs": states}), Reply(body={"errors": []}))
        listed = Reply(body={"paths": dict.fromkeys(paths, {})})
        client = await self.talk(listed, *answers, dialect=None)
        self.assertEqual({7: {"7 RUNNING COMPLETING"}}, await client.states())
        self.assertEqual("/slurm/v0.0.42/jobs/state/", self.server.seen[-1].path)
        with self.assertRaisesRegex(NotSlurm, "without a list of jobs"):
            await client.states()

    async def test_states_are_not_asked_for_if_the_server_does_not_list_them(self) -> None:
        for path, questions in (("slurm/v0.0.40", 1), ("slurm/v0.0.38", 0)):
            listed = Reply(body={"paths": {f"/{path}/jobs/": {}}})
            client = await self.talk(listed, dialect=path)
            self.assertIsNone(await client.states())
            self.assertIsNone(await client.states())
            self.assertEqual(questions, len(self.server.seen))

    async def test_a_server_that_is_down_is_asked_again_later(self) -> None:
        listed = Reply(body={"paths": {"/slurm/v0.0.38/job/submit": {}}})
        client = await self.talk(Fault.CLOSE, Fault.CLOSE, listed, Reply(), dialect=None)
        with self.assertRaises(Unreachable):
            await client.jobs()
        await client.jobs()
        self.assertEqual("/slurm/v0.0.38/jobs", self.server.seen[-1].path)

    async def test_a_server_that_was_upgraded_meanwhile_is_asked_anew_what_it_speaks(self) -> None:
        old = Reply(body={"paths": {"/slurm/v0.0.38/job/submit": {}}})
        new = Reply(body={"paths": {"/slurm/v0.0.42/job/submit": {}}})
        nowhere = Reply(404, b"not found", "text/plain")
        client = await self.talk(old, Reply(), nowhere, new, Reply(), dialect=None)
        await client.jobs()
        with self.assertRaises(NotSlurm):
            await client.jobs()
        await client.jobs()
        self.assertEqual("/slurm/v0.0.42/jobs", self.server.seen[-1].path)

    async def test_a_dialect_that_is_pinned_stays(self) -> None:
        client = await self.talk(Reply(404, b"not found", "text/plain"), Reply())
        with self.assertRaises(NotSlurm):
            await client.jobs()
        await client.jobs()
        self.assertEqual("/slurm/v0.0.38/jobs", self.server.seen[-1].path)

    async def test_a_submission_carries_script_properties_and_environment(self) -> None:
        client = await self.talk(Reply(body={"job_id": 1}))
        await client.submit(a_submission("exit 0", mail_type=["END", "FAIL"]))
        [seen] = self.server.seen
        self.assertEqual("/slurm/v0.0.38/job/submit", seen.path)
        sent = json.loads(seen.body)
        self.assertEqual("#!/bin/bash\nexit 0\n", sent["script"])
        self.assertEqual("END,FAIL", sent["job"]["mail_type"])
        self.assertEqual({"PATH": "/usr/bin:/bin"}, sent["job"]["environment"])


class _Rewritten(FileToken):
    """A file whose token somebody replaces while the first is in use."""

    def __init__(self, path: Path, second: str) -> None:
        super().__init__(path)
        self._file, self._second = path, second

    async def renew(self, rejected: str) -> str:
        self._file.write_text(self._second)
        return await super().renew(rejected)


if __name__ == "__main__":
    unittest.main()
