"""How a job finds out whether a user has cancelled it."""

import json
import tempfile
import threading
import unittest
from pathlib import Path
from unittest.mock import patch

from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.cli import cancel_request
from aind_data_transfer_service.upload.cli.cancel_request import is_cancelled
from tests.support import free_port
from tests.support.scripted import Scripted, reply
from tests.support.threads import limit_threads

YES = reply(200, json.dumps({"data": {"cancel_requested": True}}).encode())
NO = reply(200, json.dumps({"data": {"cancel_requested": False}}).encode())


class CancelRequestTest(unittest.TestCase):
    """A file that may be there, and a service that may answer."""

    def setUp(self):
        """Name a file that is not there."""
        self.file = Path(self.enterContext(tempfile.TemporaryDirectory())) / "j1.cancel"

    def ask(self, url=None, file=None):
        """Ask, with the settings of a job."""
        values = {"upload_cancel_file": file, "upload_cancel_url": url}
        return is_cancelled(UploadSettings(**values, upload_callback_token="adts_1"))

    def serve(self, answer):
        """Start a service that gives a certain answer, and return its address."""
        server = Scripted(lambda _: answer, by_head=True)
        self.addCleanup(server.stop)
        return server, f"{server.url}/api/jobs/j1/cancel_request"

    def test_the_file_or_the_service_can_say_so(self):
        yes, no = self.serve(YES)[1], self.serve(NO)[1]
        self.assertFalse(self.ask())
        self.assertFalse(self.ask(file=self.file))
        self.assertFalse(self.ask(no, self.file))
        self.assertTrue(self.ask(yes, self.file))
        self.file.touch()
        self.assertTrue(self.ask(file=self.file))
        self.assertTrue(self.ask(no, self.file))

    def test_the_service_is_asked_with_the_token_of_the_job(self):
        server, url = self.serve(YES)
        self.assertTrue(self.ask(url))
        [head] = server.requests
        self.assertTrue(head.startswith(b"GET /api/jobs/j1/cancel_request "))
        self.assertIn(b"authorization: bearer adts_1", head.lower())

    def test_without_a_clear_answer_the_job_is_not_cancelled(self):
        odd = (b'{"data": {"cancel_requested": "yes"}}', b'{"data": {}}', b"[true]", b"<html>")
        answers = [reply(401, YES), reply(503), *(reply(200, body) for body in odd)]
        for answer in answers:
            with self.subTest(answer):
                self.assertFalse(self.ask(self.serve(answer)[1]))
        self.assertFalse(self.ask(f"http://127.0.0.1:{free_port()}/"))

    def test_a_drive_or_a_service_that_hangs_is_not_waited_for(self):
        go = threading.Event()
        self.addCleanup(go.set)
        with patch.object(cancel_request.os.path, "exists", lambda _: go.wait(20)):
            self.assertTrue(self.ask(self.serve(YES)[1], self.file))
            with patch.object(cancel_request, "_SECONDS", 0.1):
                self.assertFalse(self.ask(self.serve(None)[1], self.file))

    def test_where_no_thread_can_be_started_nothing_hangs_and_the_job_is_not_cancelled(self):
        go = threading.Event()
        self.addCleanup(go.set)
        answers = []
        ask = threading.Thread(target=lambda: answers.append(self.ask(file=self.file)), daemon=True)
        hangs = patch.object(cancel_request.os.path, "exists", lambda _: go.wait(20))
        with hangs, limit_threads(1):
            ask.start()
            ask.join(5)
        self.assertEqual([False], answers)
