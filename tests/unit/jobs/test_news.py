"""Which jobs an executor is to ask for first: those of which something new is known."""

from aind_data_transfer_service.executors.base import RunState
from aind_data_transfer_service.jobs.states import JobState
from tests.support.jobs import ToldExecutor, event_line
from tests.support.manager import ManagerTest


class TakesTurns(ToldExecutor):
    """An executor that cannot ask for all jobs at each look."""

    def __init__(self):
        super().__init__()
        self.first: set[str] = set()

    def put_first(self, job_ids):
        """Take a note."""
        self.first = set(job_ids)


class NewsTest(ManagerTest):
    """Jobs that report to the service while the executor does not tell their states yet."""

    def make(self, **settings):
        """Make a manager with such an executor."""
        if not isinstance(self.executor, TakesTurns):
            self.executor = TakesTurns()
        return super().make(**settings)

    async def begin(self, subject: str, state: RunState) -> str:
        """Submit a job, and wait until it is in a state."""
        job_id = await self.submit(subject_id=subject)
        self.executor.tell(job_id, state)
        await self.until(job_id, JobState(state.value))
        return job_id

    async def wait_for(self, *job_ids: str) -> None:
        """Wait until exactly these jobs are put first."""

        async def are_first() -> bool:
            return self.executor.first == set(job_ids)

        await self.until_true(are_first)

    async def test_jobs_that_tell_of_their_beginning_or_end_are_put_first_until_it_shows(self):
        waiting = await self.begin("1", RunState.PENDING)
        failing, ending = [await self.begin(one, RunState.RUNNING) for one in ("2", "3")]
        await self.begin("4", RunState.PENDING)
        take = self.manager.inbox.take
        await take(waiting, 0, event_line("check", "start"))
        await self.wait_for(waiting)
        await take(failing, 0, event_line("transfer", "fail", "no"))
        await take(ending, 0, event_line("done", "end"))
        await self.wait_for(waiting, failing, ending)
        self.executor.tell(waiting, RunState.RUNNING)
        await self.wait_for(failing, ending)
        self.executor.tell(failing, RunState.FAILED, exit_code=1)
        await self.wait_for(ending)

    async def test_a_job_that_is_being_cancelled_is_put_first(self):
        job_id = await self.begin("1", RunState.RUNNING)
        await self.begin("2", RunState.RUNNING)
        await self.wait_for()
        await self.manager.cancel(job_id)
        await self.wait_for(job_id)
