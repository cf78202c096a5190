"""What every executor has to do, whatever runs its jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import Executor, JobSpec, RunState, RunStatus
from aind_data_transfer_service.jobs.models import new_job_id
from tests.support import slow

WAITING = frozenset({RunState.PENDING, RunState.RUNNING})


def a_script(*lines: str, **values) -> JobSpec:
    """Make a job that runs a script."""
    script = "\n".join(["#!/bin/bash", *lines, ""])
    return JobSpec(**({"job_id": new_job_id(), "name": "a test's job", "script": script} | values))


class ExecutorContract:
    """Mixed into an asynchronous test case that makes `self.executor`, which runs one job at once.

    `patience` is how long a job may take to come to its end, in seconds.
    """

    executor: Executor
    patience = 60.0

    async def begin(self, *specs: JobSpec) -> list[str]:
        """Start jobs and give their references."""
        started = await self.executor.start(specs)
        self.assertEqual([one.job_id for one in started], [spec.job_id for spec in specs])
        self.assertEqual([one.error for one in started], [None] * len(specs))
        return [one.ref for one in started]

    async def status(self, ref: str) -> RunStatus:
        """Ask for one job."""
        return (await self.executor.statuses([ref]))[ref]

    async def wait_for(self, ref: str, *states: RunState) -> RunStatus:
        """Wait until a job is in one of the states, or ended otherwise, which fails."""
        status = await self.until(ref, lambda: self._settled(ref, states))
        self.assertIn(status.state, states, status)
        return status

    async def until(self, what: str, ask: Callable[[], Awaitable]):
        """Wait until there is an answer."""
        async with asyncio.timeout(self.patience):
            while not (answer := await ask()):
                await asyncio.sleep(0.02)
        return answer

    async def said(self, ref: str, text: bytes) -> None:
        """Wait until a job has said something."""

        async def heard() -> bool:
            return text in (await self.executor.read(ref, "stdout", 0, 10**6)).data

        await self.until(f"{ref} to say {text!r}", heard)

    async def _settled(self, ref: str, states) -> RunStatus | None:
        status = await self.status(ref)
        return status if status.state in states or status.state not in WAITING else None

    async def test_a_job_that_does_its_work_has_completed(self):
        [ref] = await self.begin(a_script("exit 0", recorded_at=datetime.now(UTC)))
        status = await self.wait_for(ref, RunState.COMPLETED)
        self.assertEqual((status.ref.partition("@")[0], status.exit_code), (ref, 0))
        self.assertLessEqual(status.started_at, status.ended_at)
        self.assertIsNotNone(status.ended_at.tzinfo)

    @slow
    async def test_a_job_that_fails_tells_its_exit_code(self):
        [ref] = await self.begin(a_script("echo no >&2", "exit 17"))
        self.assertEqual((await self.wait_for(ref, RunState.FAILED)).exit_code, 17)

    async def test_what_a_job_says_is_kept_and_read_in_pieces(self):
        [ref] = await self.begin(a_script("echo 0123456789", "echo complaint >&2"))
        await self.wait_for(ref, RunState.COMPLETED)
        piece = await self.executor.read(ref, "stdout", 2, 5)
        self.assertEqual((piece.data, piece.offset, piece.size), (b"23456", 2, 11))
        tail = await self.executor.read(ref, "stdout", -4, 100)
        self.assertEqual((tail.data, tail.offset), (b"789\n", 7))
        beyond = await self.executor.read(ref, "stdout", 99, 5)
        self.assertEqual((beyond.data, beyond.offset, beyond.size), (b"", 11, 11))
        complaint = await self.executor.read(ref, "stderr", -(10**6), 10**6)
        self.assertEqual(complaint.data, b"complaint\n")

    async def test_files_can_be_read_while_the_job_runs_and_are_empty_before(self):
        [ref] = await self.begin(a_script("echo here; sleep 60"))
        await self.said(ref, b"here")
        [waiting] = await self.begin(a_script("exit 0"))
        self.assertEqual((await self.executor.read(waiting, "stdout", 0, 10)).size, 0)
        self.assertEqual((await self.executor.read(waiting, "events", -10, 10)).data, b"")
        await self.executor.cancel(ref)

    async def test_a_job_knows_its_id_and_where_its_events_go(self):
        spec = a_script('echo "id=$JOB_ID"', 'echo "{}" >> "$UPLOAD_EVENTS_FILE"')
        [ref] = await self.begin(spec)
        await self.wait_for(ref, RunState.COMPLETED)
        said = await self.executor.read(ref, "stdout", 0, 100)
        self.assertEqual(said.data, f"id={spec.job_id}\n".encode())
        self.assertEqual((await self.executor.read(ref, "events", 0, 100)).data, b"{}\n")

    async def test_the_same_job_is_never_started_twice(self):
        spec = a_script("echo once")
        refs = await self.begin(spec)
        refs += await self.begin(spec, spec)
        started = await asyncio.gather(*(self.executor.start([spec]) for _ in range(5)))
        refs += [one.ref for [one] in started]
        self.assertEqual(len(set(refs)), 1)
        await self.wait_for(refs[0], RunState.COMPLETED)
        refs += await self.begin(spec)
        later = a_script("exit 0")
        [last] = await self.begin(later)
        await self.wait_for(last, RunState.COMPLETED)
        self.assertEqual((await self.executor.read(refs[0], "stdout", 0, 99)).data, b"once\n")

    async def test_jobs_wait_for_their_turn_and_start_in_order(self):
        holder = a_script("echo holding; sleep 60")
        others = [a_script("date +%s.%N") for _ in range(3)]
        [held] = await self.begin(holder)
        refs = [ref for one in others for ref in await self.begin(one)]
        await self.said(held, b"holding")
        states = await self.executor.statuses(refs)
        self.assertEqual({one.state for one in states.values()}, {RunState.PENDING})
        await self.executor.cancel(held)
        for ref in refs:
            await self.wait_for(ref, RunState.COMPLETED)
        times = [float((await self.executor.read(ref, "stdout", 0, 99)).data) for ref in refs]
        self.assertEqual(times, sorted(times))

    async def test_a_running_job_is_stopped_with_all_that_it_started(self):
        [ref] = await self.begin(
            a_script(
                'look() { [ -e "$UPLOAD_CANCEL_FILE" ] && echo "$1"; }',
                "trap 'echo asked; look by-a-user; exit 3' TERM",
                "look too-early",
                "sleep 300 & echo child=$!",  # last: then the job can be stopped
                "wait",
            )
        )
        await self.said(ref, b"child=")
        await self.executor.cancel(ref)
        await self.wait_for(ref, RunState.CANCELLED)
        said = (await self.executor.read(ref, "stdout", 0, 999)).data
        self.assertIn(b"\nasked\n", said)
        self.assertIn(b"\nby-a-user\n", said)
        self.assertNotIn(b"too-early", said)
        child = int(said.split(b"child=")[1].split()[0])
        await self.until("the child to be gone", lambda: _is_gone(child))

    @slow
    async def test_a_job_that_will_not_stop_is_made_to(self):
        [ref] = await self.begin(a_script("trap '' TERM", "echo deaf", "sleep 300", "sleep 300"))
        await self.said(ref, b"deaf")
        await self.executor.cancel(ref)
        await self.executor.cancel(ref)
        await self.wait_for(ref, RunState.CANCELLED)

    async def test_a_waiting_job_is_taken_out_of_the_queue(self):
        [held] = await self.begin(a_script("echo on; sleep 60"))
        await self.said(held, b"on")  # of several jobs that are sent at once any may begin first
        waiting, last = await self.begin(a_script("echo never"), a_script("exit 0"))
        await self.executor.cancel(waiting)
        await self.wait_for(waiting, RunState.CANCELLED)
        await self.executor.cancel(held)
        await self.wait_for(last, RunState.COMPLETED)
        self.assertEqual((await self.executor.read(waiting, "stdout", 0, 10)).data, b"")
        self.assertEqual((await self.status(waiting)).state, RunState.CANCELLED)

    async def test_cancelling_what_has_ended_changes_nothing(self):
        [ref] = await self.begin(a_script("exit 0"))
        await self.wait_for(ref, RunState.COMPLETED)
        await self.executor.cancel(ref)
        self.assertEqual((await self.status(ref)).state, RunState.COMPLETED)

    async def test_a_job_that_nobody_knows_is_lost(self):
        self.assertEqual((await self.status("404")).state, RunState.LOST)
        await self.executor.cancel("404")
        self.assertEqual(await self.executor.statuses([]), {})

    async def test_any_text_in_a_job_is_inert(self):
        hostile = "'; touch /tmp/pwned; $(id) `id` \\ \" \n % ünï"
        [ref] = await self.begin(a_script("exit 0", name=hostile, settings={"name": hostile}))
        await self.wait_for(ref, RunState.COMPLETED)

    async def test_a_reference_cannot_lead_out_of_the_folder(self):
        for ref in ("../../etc", "/etc", "", ".", "a/b", "a\0b"):
            with self.assertRaises(ExecutorError):
                await self.executor.read(ref, "stdout", 0, 10)


async def _is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has buried counts as ended."""
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
