"""What the lease of the service has to do, whatever database it is in."""

from concurrent.futures import ThreadPoolExecutor

from aind_data_transfer_service.errors import LeaseLostError
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobStore
from tests.support import wait_until
from tests.support.jobs import a_job


class LeaseContract:
    """Mixed into a test case that makes `self.store` and knows its `self.url`."""

    store: JobStore
    url: str

    def other(self) -> JobStore:
        """Open the database as another process does."""
        store = JobStore(self.url)
        self.addCleanup(store.close)
        return store

    def test_of_many_that_want_the_lease_at_once_one_gets_it(self) -> None:
        stores = [self.store, *(self.other() for _ in range(4))]
        with ThreadPoolExecutor(5) as pool:
            taken = list(pool.map(lambda one: one.lease.acquire(60, "host"), stores))
        winners = [one for one, before in zip(stores, taken) if before is not None]
        self.assertEqual(1, len(winners))
        state = self.store.lease.read()
        self.assertEqual((winners[0].lease.holder, "host", 1), (state.holder, state.name, 1))
        self.assertTrue(50 < state.seconds_left <= 60)

    def test_it_is_renewed_released_and_taken_with_a_growing_number(self) -> None:
        other = self.other()
        self.assertIsNotNone(self.store.lease.acquire(60, "a"))
        self.assertIsNone(other.lease.acquire(60, "b"))
        self.assertIsNotNone(self.store.lease.renew(1, 120))
        self.assertGreater(self.store.lease.read().seconds_left, 60)
        self.store.lease.release(1)
        self.assertFalse(self.store.lease.read().is_held)
        before = other.lease.acquire(60, "b")
        self.assertEqual(("", 1), (before.holder, before.fencing))
        self.assertIsNone(self.store.lease.renew(1, 60))
        self.store.lease.release(1)  # which is not its own any more
        self.assertEqual(("b", 2), (other.lease.read().name, other.lease.read().fencing))

    def test_an_expired_lease_is_anybodys_and_one_of_a_dead_process_too(self) -> None:
        other, third = self.other(), self.other()
        self.store.lease.acquire(0.05, "a")
        before = wait_until(lambda: other.lease.acquire(60, "b"), 10)
        self.assertEqual(self.store.lease.holder, before.holder)
        self.assertIsNone(third.lease.acquire(60, "c"))
        self.assertIsNotNone(third.lease.acquire(60, "c", is_dead=other.lease.holder.__eq__))

    def test_what_only_the_holder_may_write_is_refused_to_another(self) -> None:
        job = a_job()
        self.store.add([job])
        self.store.lease.acquire(60, "a")
        fenced = self.store.fenced(1)
        fenced.update(job.id, state=JobState.PENDING)
        other = self.other()
        other.lease.acquire(60, "b", is_dead=lambda _: True)
        writes = (
            lambda: fenced.update(job.id, state=JobState.RUNNING),
            lambda: fenced.open_ends.begin(job.id, "analysis"),
            lambda: fenced.outbox.take(None),
        )
        for write in writes:
            with self.assertRaises(LeaseLostError):
                write()
        self.assertEqual(JobState.PENDING, fenced.get(job.id).state)
        self.store.update(job.id, cancel_requested=True)  # as users may, by way of any process
        other.fenced(2).update(job.id, state=JobState.RUNNING)

    def test_jobs_of_another_machine_hold_the_lease_until_they_have_ended(self) -> None:
        job, other = a_job(), self.other()
        self.store.lease.acquire(60, "a", place="A")
        self.store.add([job])
        self.store.claims.take([job.id], "local")
        self.store.lease.release(1)
        self.assertIsNone(other.lease.acquire(60, "b", place="B"))
        self.store.update(job.id, state=JobState.FAILED)
        self.assertIsNotNone(other.lease.acquire(60, "b", place="B"))

    def test_jobs_that_run_on_no_machine_do_not_hold_the_lease(self) -> None:
        unsent, sent = a_job(), a_job()
        self.store.lease.acquire(60, "a", place="A")
        self.store.add([unsent, sent])
        self.store.claims.take([sent.id], "slurm")
        self.store.update(sent.id, state=JobState.RUNNING, executor_ref="5:x")
        self.store.lease.release(1)
        other = self.other()
        self.assertIsNotNone(other.lease.acquire(60, "b", place="B"))
        other.lease.release(2)
        self.store.claims.take([unsent.id], "local")  # it may have been started already
        third = self.other()
        self.assertIsNone(third.lease.acquire(60, "c", place="C"))
