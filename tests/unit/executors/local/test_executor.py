"""The local executor, with real processes."""

import asyncio
import json
import os
import signal
import stat
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import psutil

from aind_data_transfer_service.errors import ExecutorError, LeaseLostError
from aind_data_transfer_service.executors.base import JobSpec, RunState
from aind_data_transfer_service.executors.local.executor import LocalExecutor
from aind_data_transfer_service.executors.registry import choose_executor
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import slow
from tests.support.executor_contract import ExecutorContract, a_script

SHOW_REQUEST = (sys.executable, "-c", "import sys; print(sys.argv[1], open(sys.argv[2]).read())")


class LocalExecutorTest(ExecutorContract, unittest.IsolatedAsyncioTestCase):
    """The contract, and what is this executor's own affair."""

    secrets: dict[str, str] = {}

    async def asyncSetUp(self):
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "jobs"
        self.executor = self.make()
        await self.executor.open()
        self.addAsyncCleanup(self.tidy)

    async def tidy(self):
        for path in self.folder.glob("*/process.json"):
            if not (path.parent / "exit.json").exists():
                await self.executor.cancel(path.parent.name)
                await self.until("its end", lambda: _exists(path.parent / "exit.json"))
        await self.executor.close()

    def make(self, **values) -> LocalExecutor:
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **self.secrets}
        usual = {"slots": 1, "command": SHOW_REQUEST, "grace": 0.5, "poll_interval": 0.02}
        return LocalExecutor(self.folder, environment, **(usual | values))

    async def restart(self, **values):
        """Leave everything to a new executor, as when the service starts again."""
        await self.executor.close()
        self.executor = self.make(**values)
        await self.executor.open()

    def supervisor_of(self, ref: str) -> int:
        return json.loads((self.folder / ref / "process.json").read_text())["pid"]

    async def test_the_data_transfer_job_gets_its_request_as_a_file(self):
        request = json.dumps({"text": "O'Brien $(id) \n ünï"})
        [ref] = await self.begin(JobSpec("j1", "asset", request=request))
        await self.wait_for(ref, RunState.COMPLETED)
        said = (await self.executor.read(ref, "stdout", 0, 999)).data.decode()
        self.assertEqual(said, f"--json-file {request}\n")

    async def test_the_folder_of_a_job_is_its_owners_from_the_beginning(self):
        self.addCleanup(os.umask, os.umask(0))
        refs = await self.begin(a_script("exit 0"), JobSpec("j2", "asset", request="{}"))
        found = {
            path.name: oct(stat.S_IMODE(path.stat().st_mode))
            for ref in refs
            for path in (self.folder / ref, *(self.folder / ref).iterdir())
        }
        for name, mode in {"spec.json": 0o600, "script": 0o700, "request.json": 0o600}.items():
            self.assertEqual(oct(mode), found[name], name)
        self.assertEqual({"0o700"}, {found[ref] for ref in refs})
        for ref in refs:
            await self.wait_for(ref, RunState.COMPLETED)

    async def test_the_secrets_of_the_sources_of_metadata_are_for_our_own_jobs_alone(self):
        show = "import os; print(os.environ.get('LABTRACKS_PASSWORD'), os.environ['PATH'])"
        self.secrets = {"LABTRACKS_PASSWORD": "hunter2"}
        await self.restart(command=(sys.executable, "-c", show))
        [ours] = await self.begin(JobSpec("j1", "asset", request="{}"))
        await self.wait_for(ours, RunState.COMPLETED)
        [users] = await self.begin(a_script("echo ${LABTRACKS_PASSWORD:-none} $PATH"))
        await self.wait_for(users, RunState.COMPLETED)
        for ref, word in ((ours, "hunter2"), (users, "none")):
            said = (await self.executor.read(ref, "stdout", 0, 9999)).data.decode()
            self.assertEqual(f"{word} {os.environ['PATH']}\n", said)

    async def test_only_the_data_transfer_job_reads_a_recorded_request(self):
        show = "import os; print(os.environ.get('UPLOAD_RECORDED', 'none'))"
        await self.restart(command=(sys.executable, "-c", show))
        [ours] = await self.begin(JobSpec("j1", "asset", request="{}"))
        await self.wait_for(ours, RunState.COMPLETED)
        [users] = await self.begin(a_script("echo ${UPLOAD_RECORDED:-none}"))
        await self.wait_for(users, RunState.COMPLETED)
        for ref, word in ((ours, "true"), (users, "none")):
            said = (await self.executor.read(ref, "stdout", 0, 9999)).data.decode()
            self.assertEqual(f"{word}\n", said)

    async def test_the_data_transfer_job_hears_the_recorded_name_of_its_asset(self):
        show = "import os; print(os.environ.get('UPLOAD_ASSET', 'none'))"
        await self.restart(command=(sys.executable, "-c", show))
        [ours] = await self.begin(JobSpec("j1", "behavior_1_2024", request="{}"))
        await self.wait_for(ours, RunState.COMPLETED)
        [users] = await self.begin(a_script("echo ${UPLOAD_ASSET:-none}"))
        await self.wait_for(users, RunState.COMPLETED)
        for ref, word in ((ours, "behavior_1_2024"), (users, "none")):
            said = (await self.executor.read(ref, "stdout", 0, 9999)).data.decode()
            self.assertEqual(f"{word}\n", said)

    async def test_several_slots_run_several_jobs_at_once(self):
        await self.restart(slots=2)
        refs = await self.begin(*(a_script("echo on; sleep 60") for _ in range(3)))
        await self.said(refs[0], b"on")
        await self.said(refs[1], b"on")
        self.assertEqual((await self.status(refs[2])).state, RunState.PENDING)

    async def test_a_killed_process_is_told_by_its_signal(self):
        [ref] = await self.begin(a_script("kill -9 $$"))
        status = await self.wait_for(ref, RunState.FAILED)
        self.assertIn("killed by SIGKILL, as when memory runs out", status.reason)
        self.assertIsNone(status.exit_code)
        [ref] = await self.begin(a_script("kill -SEGV $$"))
        self.assertIn("killed by SIGSEGV", (await self.wait_for(ref, RunState.FAILED)).reason)
        [ref] = await self.begin(a_script("kill -40 $$"))
        self.assertRegex((await self.wait_for(ref, RunState.FAILED)).reason, "signal 40|SIGRT")

    async def test_a_job_whose_supervisor_is_killed_fails_and_nothing_of_it_goes_on(self):
        [ref, following] = await self.begin(
            a_script("echo pid=$$", "sleep 300"), a_script("exit 0")
        )
        await self.said(ref, b"pid=")
        pid = int((await self.executor.read(ref, "stdout", 0, 99)).data.split(b"=")[1])
        os.kill(self.supervisor_of(ref), signal.SIGKILL)
        status = await self.wait_for(ref, RunState.FAILED)
        self.assertIn("vanished", status.reason)
        await self.wait_for(following, RunState.COMPLETED)
        self.assertFalse(_lives(pid))
        self.assertIn("vanished", (await self.status(ref)).reason)

    async def test_a_job_that_the_machine_stops_says_so(self):
        """And the job finds no word of a user's, so that it keeps what it has sent."""
        look = "trap '[ -e \"$UPLOAD_CANCEL_FILE\" ] || echo no user; exit 3' TERM QUIT HUP"
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            with self.subTest(number):
                [ref] = await self.begin(a_script(look, "echo on", "sleep 300 & wait"))
                await self.said(ref, b"on")
                os.kill(self.supervisor_of(ref), number)
                status = await self.wait_for(ref, RunState.FAILED)
                self.assertIn("told to stop, as when the machine shuts down", status.reason)
                said = (await self.executor.read(ref, "stdout", 0, 99)).data
                self.assertEqual(said, b"on\nno user\n")

    async def test_a_job_that_ends_well_although_cancelled_has_completed(self):
        [ref] = await self.begin(a_script("trap 'exit 0' TERM", "echo on", "sleep 300 & wait"))
        await self.said(ref, b"on")
        await self.executor.cancel(ref)
        await self.wait_for(ref, RunState.COMPLETED)

    async def test_a_restart_finds_running_ended_and_waiting_jobs_again(self):
        [running, waiting, dropped, last] = await self.begin(
            a_script("echo one", "until [ -e go ]; do sleep 0.05; done", "echo two", "exit 5"),
            a_script("echo second"),
            a_script("echo never"),
            a_script("echo third"),
        )
        await self.said(running, b"one")
        await self.executor.cancel(dropped)
        await self.restart()
        self.assertEqual((await self.status(running)).state, RunState.RUNNING)
        self.assertEqual((await self.status(waiting)).state, RunState.PENDING)
        await self.executor.close()
        (self.folder / running / "go").touch()
        await self.until("the job's end", lambda: _exists(self.folder / running / "exit.json"))
        self.executor = self.make()
        await self.executor.open()
        self.assertEqual((await self.status(running)).exit_code, 5)
        await self.wait_for(waiting, RunState.COMPLETED)
        await self.wait_for(last, RunState.COMPLETED)
        self.assertEqual((await self.status(dropped)).state, RunState.CANCELLED)
        said = await self.executor.read(running, "stdout", 0, 99)
        self.assertEqual(said.data, b"one\ntwo\n")

    async def test_a_running_job_is_cancelled_by_a_service_that_did_not_start_it(self):
        [ref] = await self.begin(a_script("echo on", "sleep 300"))
        await self.said(ref, b"on")
        await self.restart()
        await self.executor.cancel(ref)
        await self.wait_for(ref, RunState.CANCELLED)

    async def test_a_job_that_vanished_while_the_service_was_away_has_failed(self):
        [ref] = await self.begin(a_script("echo on", "sleep 300"))
        await self.said(ref, b"on")
        supervisor = self.supervisor_of(ref)
        await self.executor.close()
        os.kill(supervisor, signal.SIGKILL)
        self.executor = self.make()
        await self.executor.open()
        self.assertIn("vanished", (await self.wait_for(ref, RunState.FAILED)).reason)

    @slow
    async def test_a_job_that_was_launched_but_not_noted_is_not_run_twice(self):
        """The service was killed between the start of the supervisor and everything after it."""
        spec = a_script("echo once; sleep 1")
        [ref] = await self.begin(spec)
        await self.said(ref, b"once")
        process = self.folder / ref / "process.json"
        noted = process.read_bytes()
        process.unlink()
        await self.restart()
        await self.until("a second supervisor", lambda: _several_supervisors(self.folder / ref))
        process.write_bytes(noted)
        await self.wait_for(ref, RunState.COMPLETED)
        [last] = await self.begin(a_script("exit 0"))
        await self.wait_for(last, RunState.COMPLETED)
        self.assertEqual((await self.executor.read(ref, "stdout", 0, 99)).data, b"once\n")

    async def test_a_job_with_two_supervisors_is_cancelled_by_the_service_of_the_second(self):
        [ref] = await self.begin(a_script("echo on", "sleep 300"))
        await self.said(ref, b"on")
        process = self.folder / ref / "process.json"
        noted = process.read_bytes()
        process.unlink()
        await self.restart()
        await self.until("a second supervisor", lambda: _several_supervisors(self.folder / ref))
        process.write_bytes(noted)
        await self.executor.cancel(ref)
        await self.wait_for(ref, RunState.CANCELLED)

    async def test_a_job_that_was_half_accepted_is_accepted_anew(self):
        await self.executor.close()
        (self.folder / ".active" / "half").touch()
        self.executor = self.make()
        await self.executor.open()
        self.assertEqual((await self.status("half")).state, RunState.LOST)
        [ref] = await self.begin(a_script("exit 0", job_id="half"))
        await self.wait_for(ref, RunState.COMPLETED)

    async def test_two_services_do_not_work_in_one_folder(self):
        with self.assertRaisesRegex(ExecutorError, "another service runs jobs in .*DATA_DIR"):
            await self.make().open()

    async def test_faults_of_one_round_do_not_end_the_work(self):
        for fault in (RuntimeError("can't start new thread"), LeaseLostError("not now")):
            with self.subTest(fault):
                faults = [fault, fault]
                await self.restart(guard=lambda faults=faults: _raise_next(faults))
                await self.until("the faults", lambda: _is_empty(faults))
                [ref] = await self.begin(a_script("exit 0"))
                await self.wait_for(ref, RunState.COMPLETED)

    async def test_work_that_does_not_come_round_is_late(self):
        """As where the disk of the queue hangs."""
        gate, reached = threading.Event(), threading.Event()
        self.addCleanup(gate.set)
        gate.set()

        def wait():
            if not gate.is_set():
                reached.set()
            gate.wait(10)

        executor = self.make(guard=wait)
        executor.patience = 0.0
        await self.executor.close()
        self.executor = executor
        self.assertFalse(executor.is_late)
        await executor.open()
        [ref] = await self.begin(a_script("echo on", "sleep 60"))
        await self.said(ref, b"on")
        gate.clear()
        await self.until("the next round", lambda: _is_set(reached))
        await self.until("the delay", lambda: _is_late(executor))
        gate.set()
        await self.until("the next beat", lambda: _is_late(executor, expected=False))

    async def test_a_script_that_cannot_be_run_fails_in_words(self):
        [ref] = await self.begin(JobSpec("j1", "n", script="#!/no/such/program\n"))
        status = await self.wait_for(ref, RunState.FAILED)
        self.assertRegex(status.reason, "cannot be run: No such file")

    async def test_a_job_that_cannot_be_written_down_is_refused_in_words(self):
        (self.folder / "blocked").touch()
        [started] = await self.executor.start([a_script("exit 0", job_id="blocked")])
        self.assertIsNone(started.ref)
        self.assertIn("could not be started", started.error)
        [started] = await self.executor.start([a_script("exit 0", job_id="../x")])
        self.assertIn("cannot be the id", started.error)

    async def test_a_damaged_record_of_the_end_is_a_failure_in_words(self):
        [ref] = await self.begin(a_script("exit 0"))
        await self.wait_for(ref, RunState.COMPLETED)
        (self.folder / ref / "exit.json").write_text("{half")
        status = await self.status(ref)
        self.assertEqual(status.state, RunState.FAILED)
        self.assertIn("cannot be read", status.reason)

    async def test_a_supervisor_that_dies_at_once_is_a_failed_start(self):
        spec = a_script("echo never")
        [held, ref] = await self.begin(a_script("echo on; sleep 60"), spec)
        await self.said(held, b"on")
        (self.folder / ref / "lock").symlink_to("/no/such/folder/lock")
        await self.executor.cancel(held)
        self.assertIn("could not be started", (await self.wait_for(ref, RunState.FAILED)).reason)

    async def test_a_job_that_breaks_its_own_folder_ends_and_gives_its_place_back(self):
        await self.restart(slots=2)
        [held, broken, last] = await self.begin(
            a_script("echo on; sleep 60"), a_script("sleep 60"), a_script("exit 0")
        )
        await self.said(held, b"on")
        lock = self.folder / broken / "lock"
        await self.until("the second job", lambda: _exists(self.folder / broken / "process.json"))
        await self.restart(slots=2)
        lock.rename(lock.with_name("kept"))
        lock.mkdir()
        await self.wait_for(last, RunState.COMPLETED)
        self.assertIn("vanished", (await self.wait_for(broken, RunState.FAILED)).reason)
        await self.executor.cancel(broken)
        await self.executor.cancel(held)

    async def test_nothing_but_a_regular_file_is_read(self):
        [ref] = await self.begin(a_script("exit 0"))
        await self.wait_for(ref, RunState.COMPLETED)
        secret = self.folder.parent / "secret"
        secret.write_text("hunter2")
        stdout = self.folder / ref / "stdout.log"
        for put in (
            stdout.mkdir,
            lambda: os.mkfifo(stdout),
            lambda: stdout.symlink_to(secret),
            lambda: stdout.symlink_to("/dev/zero"),
            lambda: stdout.symlink_to(stdout),
            lambda: os.mknod(stdout, stat.S_IFSOCK),
        ):
            stdout.unlink()
            put()
            with self.assertRaisesRegex(ExecutorError, f"stdout of job {ref} cannot be read"):
                async with asyncio.timeout(5):
                    await self.executor.read(ref, "stdout", 0, 10)
            if stdout.is_dir() and not stdout.is_symlink():
                stdout.rmdir()
                stdout.touch()

    @slow
    async def test_hostile_documents_of_a_job_are_told_as_its_failure(self):
        for document in (
            '{"exit_code": "0"}',
            '{"exit_code": 1e400, "signal": [9], "ended": "now"}',
            '{"exit_code": true, "ended": 1e300}',
            '{"error": {"a": 1}, "ended": NaN}',
            "[" * 5000,
            "null",
            "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
        ):
            with self.subTest(document=document[:40]):
                [ref] = await self.begin(a_script("exit 0"))
                await self.wait_for(ref, RunState.COMPLETED)
                (self.folder / ref / "exit.json").write_text(document)
                (self.folder / ref / "process.json").write_text(document)
                self.assertEqual((await self.status(ref)).state, RunState.FAILED)

    @slow
    async def test_a_job_cannot_have_another_process_stopped(self):
        other = await asyncio.create_subprocess_exec("sleep", "60")
        script = f"""echo '{{"pid": {other.pid}}}' > process.json; echo on; sleep 60"""
        [ref] = await self.begin(a_script(script))
        await self.said(ref, b"on")
        await self.executor.cancel(ref)
        await self.wait_for(ref, RunState.CANCELLED)
        with self.assertRaises(TimeoutError):
            await asyncio.wait_for(other.wait(), 0.3)
        other.kill()
        await other.wait()

    async def test_a_service_that_sees_the_folder_by_another_path_can_cancel(self):
        [ref] = await self.begin(a_script("echo on; echo '{}' > process.json; sleep 60"))
        await self.said(ref, b"on")
        folder, link = self.folder, self.folder.with_name("link")
        link.symlink_to(folder)
        self.folder = link
        await self.restart()
        await self.executor.cancel(ref)
        await self.wait_for(ref, RunState.CANCELLED)
        self.folder = folder

    async def test_the_service_may_stop_while_somebody_submits(self):
        task = asyncio.create_task(self.executor.start([a_script("exit 0") for _ in range(50)]))
        await asyncio.sleep(0)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        folders = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        self.assertIn(len(folders), (0, 50), "all were accepted, or none")


class ChoiceTest(unittest.IsolatedAsyncioTestCase):
    """Which executor the settings ask for."""

    async def test_this_machine_unless_a_cluster_is_named(self):
        with tempfile.TemporaryDirectory() as folder:
            chosen = choose_executor(ServiceSettings(data_dir=folder))
        self.assertEqual(chosen.name, "local")

    async def test_a_cluster_where_one_is_named(self):
        hpc = HpcSettings(
            host="slurm",
            username="svc",
            token="t",
            current_working_directory="/hpc",
            logging_directory="/logs",
        )
        chosen = choose_executor(ServiceSettings(hpc=hpc))
        self.assertEqual(chosen.name, "slurm")
        await chosen.close()


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _exists(path: Path) -> bool:
    return path.exists()


async def _several_supervisors(folder: Path) -> bool:
    found = 0
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        found += str(folder) in command and any("supervisor.py" in part for part in command)
    return found > 1


def _raise_next(faults: list[Exception]) -> None:
    """Raise the next fault, if one is left."""
    if faults:
        raise faults.pop()


async def _is_empty(faults: list[Exception]) -> bool:
    return not faults


async def _is_set(event: threading.Event) -> bool:
    return event.is_set()


async def _is_late(executor: LocalExecutor, expected: bool = True) -> bool:
    return executor.is_late is expected
