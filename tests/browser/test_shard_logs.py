"""The logs of the shards of a job on its page, in a real browser."""

from aind_data_transfer_service.executors.base import RunState, RunStatus
from aind_data_transfer_service.jobs.states import JobState
from tests.support.application import HandExecutor
from tests.support.browser import PageTest
from tests.support.jobs import a_job
from tests.support.service import Service


class ShardLogPageTest(PageTest):
    """A person who waits for a job that is cut into two."""

    def setUp(self) -> None:
        """Start a service, and record a job of which the shards run."""
        super().setUp()
        self.service = Service()
        self.executor = HandExecutor()
        self.executor.states["7"] = RunStatus("7", RunState.RUNNING, "0 of 2 shards done")
        self.executor.cut["7"] = 2
        for shard in (1, 2):
            self.executor.files[f"7.{shard}", "stderr"] = f"shard {shard} sends\n".encode()
            self.executor.files[f"7.{shard}", "stdout"] = f"output of {shard}\n".encode()
        self.service.manager.executor = self.executor
        self.enterContext(self.service)
        self.addCleanup(self.page.context.close)
        job = a_job(state=JobState.RUNNING, executor="hand", executor_ref="7")
        self.service.manager.store.add([job])
        self.page.goto(f"{self.service.url}/jobs/{job.id}")

    def test_every_shard_can_be_chosen_while_they_run_and_the_last_job_later(self) -> None:
        log, choice = self.page.locator("#log"), self.page.locator("#shard")
        log.get_by_text("shard 1 sends").wait_for()  # nobody has chosen, and the last job waits
        self.assertEqual("1", choice.input_value())
        choice.select_option("shard 2")
        log.get_by_text("shard 2 sends").wait_for()
        self.assertNotIn("shard 1", log.inner_text())
        self.page.get_by_role("radio", name="stdout").check()
        log.get_by_text("output of 2").wait_for()
        self.executor.files["7", "stdout"] = b"all is there\n"
        choice.select_option("the last job")
        log.get_by_text("all is there").wait_for()

    def test_a_job_that_is_not_cut_offers_no_choice(self) -> None:
        self.executor.cut.clear()
        self.executor.files["7", "stderr"] = b"all of it\n"
        self.page.reload()
        self.page.locator("#log").get_by_text("all of it").wait_for()
        self.assertFalse(self.page.locator("#shard").is_visible())
