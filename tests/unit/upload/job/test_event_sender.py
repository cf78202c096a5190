"""A job's events on their way to a real service, by HTTP."""

import asyncio
import tempfile
import threading
import time
import unittest
from pathlib import Path

from aind_data_transfer_service.executors.callback_tokens import Callbacks
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.upload.job.event_sender import PIECE, Callback
from aind_data_transfer_service.upload.job.events import Events, Kind
from tests.support import free_port, slow, wait_until
from tests.support.jobs import a_job, event_line
from tests.support.service import Service
from tests.support.slurm_faults import Fault, FaultyServer, Reply


@slow
class CallbackTest(unittest.TestCase):
    """A service that cannot see the job's folder, and a job with a file of events."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.job = a_job(state=JobState.RUNNING, executor="elsewhere", executor_ref="7")
        self.file = self.folder / "events.jsonl"
        self.file.touch()

    def service(self) -> Service:
        """Make the service: each time the same one, restarted."""
        return Service(self.port, data_dir=self.folder / "data", callback_url=self.url)

    def token(self) -> str:
        """Give the job's token, as its environment does."""
        callbacks = Callbacks(self.url, self.folder / "data" / "callback.secret")
        callbacks.open()
        return callbacks.environment(self.job.id)["UPLOAD_CALLBACK_TOKEN"]

    def callback(self, url: str = "", token: str = "", **options) -> Callback:
        """Begin to follow the file as a job does."""
        options = {"interval": 0.02, "longest_delay": 0.2} | options
        address = f"{url or self.url}/api/jobs/{self.job.id}/events"
        callback = Callback(address, token or self.token(), self.file, **options)
        self.addCleanup(callback.close)
        return callback

    def events(self, callback: Callback) -> Events:
        """Begin to tell as a job does."""
        events = Events(self.file, self.job.id)
        events.attach(callback)
        self.addCleanup(events.close)
        return events

    def told(self, service: Service) -> list[str]:
        """Give the messages that the service has on record."""
        return [event.message for event in service.manager.store.events(self.job.id)]

    def record(self, service: Service) -> Job:
        """Give the job as the service has it."""
        return service.manager.store.get(self.job.id)

    def test_events_arrive_while_the_job_runs_and_all_of_them_by_its_end(self) -> None:
        with self.service() as service:
            service.manager.store.add([self.job])
            events = self.events(self.callback())
            events.emit(Kind.START, "begins ☃")
            wait_until(lambda: self.told(service) == ["begins ☃"], 10, "the first event")
            for number in range(500):
                events.emit(Kind.PROGRESS, "", files_done=number, files_total=500)
            events.emit(Kind.END, "ends")
            events.close()
            self.assertEqual(["begins ☃", "ends"], self.told(service))
            job = self.record(service)
            self.assertEqual((499, self.file.stat().st_size), (job.files_done, job.events_offset))

    def test_a_service_that_is_restarted_again_and_again_misses_nothing(self) -> None:
        with self.service() as service:
            service.manager.store.add([self.job])
            events = self.events(self.callback())
            events.emit(Kind.WARNING, "0")
            wait_until(lambda: self.told(service), 10, "the first event")
        over = threading.Event()
        numbers = iter(range(1, 10_000))

        def tell() -> None:
            while not over.wait(0.005):
                events.emit(Kind.WARNING, str(next(numbers)))

        teller = threading.Thread(target=tell)
        teller.start()
        try:
            for _ in range(3):
                with self.service() as service:
                    before = len(self.told(service))
                    wait_until(lambda: len(self.told(service)) > before + 20, 20, "more events")
        finally:
            over.set()
            teller.join()
        with self.service() as service:
            events.close()
            told = self.told(service)
        self.assertEqual([str(number) for number in range(next(numbers))], told)

    def test_a_service_that_stays_away_costs_the_job_seconds_at_its_end_and_no_more(self) -> None:
        self.token()
        events = self.events(self.callback(patience=0.5))
        began = time.monotonic()
        with self.assertLogs("aind_data_transfer_service.upload", "INFO") as log:
            for number in range(200):
                events.emit(Kind.WARNING, str(number))
            self.assertLess(time.monotonic() - began, 5)
            wait_until(lambda: "cannot be told" in str(log.output), 10, "a word of it")
            events.close()
        self.assertLess(time.monotonic() - began, 15)
        self.assertEqual(1, str(log.output).count("cannot be told"))
        self.assertNotIn(self.token(), str(log.output))

    def test_a_token_that_is_not_accepted_ends_the_calling_and_not_the_job(self) -> None:
        with self.service() as service:
            service.manager.store.add([self.job])
            callback = self.callback(token="0" * 64)
            with self.assertLogs("aind_data_transfer_service.upload", "WARNING") as log:
                events = self.events(callback)
                events.emit(Kind.START, "begins")
                wait_until(lambda: not callback.is_alive, 10, "the end of the calling")
            self.assertIn("answers 401", str(log.output))
            self.assertNotIn("0" * 64, str(log.output))
            events.emit(Kind.END, "ends")
            events.close()
            self.assertEqual([], self.told(service))

    def test_the_calling_ends_with_the_job_that_the_service_ended(self) -> None:
        with self.service() as service:
            service.manager.store.add([self.job])
            service.manager.store.update(self.job.id, state=JobState.CANCELLED)
            callback = self.callback()
            self.events(callback).emit(Kind.START, "begins")
            wait_until(lambda: not callback.is_alive, 10, "the end of the calling")

    def test_two_who_bring_the_same_file_tell_each_event_once(self) -> None:
        with self.service() as service:
            service.manager.store.add([self.job])
            first, second = self.callback(), self.callback()
            expected = []
            with open(self.file, "ab", buffering=0) as file:
                for number in range(300):
                    expected.append(str(number))
                    file.write(event_line("transfer", "warning", str(number)))
                    first.wake()
                    second.wake()
            first.close()
            second.close()
            self.assertEqual(expected, self.told(service))

    def test_a_second_run_goes_on_behind_the_first(self) -> None:
        with self.service() as service:
            service.manager.store.add([self.job])
            for message in ("first run", "second run"):
                events = self.events(self.callback())
                events.emit(Kind.WARNING, message)
                events.close()
            self.file.unlink()  # the third is on a node that has a folder of its own
            self.file.touch()
            events = self.events(self.callback())
            for message in ("third run", "its end"):
                events.emit(Kind.WARNING, message)
                wait_until(lambda: message in self.told(service), 10, message)
            events.close()
            expected = ["first run", "second run", "third run", "its end"]
            self.assertEqual(expected, self.told(service))

    def test_a_first_run_of_which_nothing_arrived_is_told_by_the_second(self) -> None:
        self.file.write_bytes(event_line("transfer", "warning", "first run"))
        with self.service() as service:
            service.manager.store.add([self.job])
            events = self.events(self.callback())
            events.emit(Kind.WARNING, "second run")
            events.close()
            self.assertEqual(["first run", "second run"], self.told(service))

    def test_a_line_without_end_holds_nothing_up(self) -> None:
        with self.service() as service:
            service.manager.store.add([self.job])
            callback = self.callback()
            with open(self.file, "ab", buffering=0) as file:
                file.write(b"x" * (2 * PIECE + 5) + b"\n" + event_line("done", "end", "all there"))
            callback.wake()
            callback.close()
            self.assertEqual(["all there"], self.told(service))


@slow
class FaultsTest(unittest.IsolatedAsyncioTestCase):
    """What lies between a job and the service does its worst."""

    async def test_answers_that_are_lost_and_errors_of_a_proxy_change_nothing(self) -> None:
        job = a_job(state=JobState.RUNNING, executor="elsewhere", executor_ref="7")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "events.jsonl"
            file.touch()
            port = free_port()
            with Service(port, callback_url=f"http://127.0.0.1:{port}") as service:
                service.manager.store.add([job])
                token = service.manager.callbacks.environment(job.id)["UPLOAD_CALLBACK_TOKEN"]
                html = Reply(502, b"<html>Bad Gateway</html>", "text/html")
                odd = Reply(409, b"<html>Conflict</html>", "text/html")
                nowhere = Reply(409, {"message": "", "data": {"offset": 10**9}})
                answers = (Fault.CLOSE, html, Fault.RESET, odd, Fault.CUT, nowhere, None)
                async with FaultyServer(*answers, upstream=service.url) as proxy:
                    callback = Callback(
                        f"{proxy.url}/api/jobs/{job.id}/events",
                        token,
                        file,
                        interval=0.01,
                        longest_delay=0.05,
                    )
                    expected = []
                    for number in range(20):
                        expected.append(str(number))
                        with open(file, "ab") as stream:
                            stream.write(event_line("transfer", "warning", str(number)))
                        callback.wake()
                        await asyncio.sleep(0.02)
                    await asyncio.to_thread(callback.close)
                    self.assertGreater(len(proxy.seen), len(answers))
                    for seen in proxy.seen:
                        self.assertNotIn(token, seen.path)
                told = [event.message for event in service.manager.store.events(job.id)]
                self.assertEqual(expected, told)
