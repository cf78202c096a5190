"""What a store of jobs has to do, whatever database lies beneath."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

from aind_data_transfer_service.errors import InFlightError, JobNotFound, TransitionError
from aind_data_transfer_service.jobs.models import utc_now
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_logs import LOG_TAIL_BYTES
from aind_data_transfer_service.jobs.store.job_store import JobChange, JobQuery, JobStore
from aind_data_transfer_service.jobs.store.tables import SORTABLE
from tests.support import slow
from tests.support.jobs import NOON, a_job, an_event
from tests.support.older_database import write_older_database


class StoreContract:
    """Mixed into a test case that makes `self.store` and knows its `self.url`."""

    store: JobStore
    url: str

    def test_a_job_comes_back_as_it_was_recorded(self):
        job = a_job(warnings=("one", "two"), script="#!/bin/sh\n", submitter="Zoë O'Brien 鼠")
        self.store.add([job])
        self.assertEqual(self.store.get(job.id), job)

    @slow
    def test_many_jobs_are_recorded_at_once_and_found_in_the_order_asked_for(self):
        jobs = [a_job() for _ in range(1203)]
        self.store.add(jobs)
        ids = [job.id for job in reversed(jobs)]
        self.assertEqual([job.id for job in self.store.get_many(ids)], ids)
        self.assertEqual(self.store.find().total, 1203)

    def test_an_unknown_id_is_said_to_be_unknown(self):
        for ask in (self.store.get, lambda job_id: self.store.update(job_id, reason="x")):
            with self.assertRaisesRegex(JobNotFound, "there is no job nowhere"):
                ask("nowhere")

    def test_text_that_no_database_takes_is_made_fit(self):
        job = a_job(submitter="a\0b\ud800c", name="ünï\0")
        self.store.add([job])
        event = an_event(message="x\0y\udfff", figures={"a\0": "\ud800"})
        self.store.update(job.id, reason="\0", events=[event])
        self.assertEqual(self.store.get(job.id).submitter, "a\ufffdb?c")
        self.assertEqual(self.store.events(job.id)[0].message, "x\ufffdy?")
        self.assertEqual(self.store.find(JobQuery(text="ÜNÏ\0")).total, 1)

    def test_lists_come_without_the_long_fields(self):
        job = a_job(script="#!/bin/sh", warnings=("w",))
        self.store.add([job])
        short = replace(job, upload_job_settings="", hpc_settings="", script="", warnings=())
        self.assertEqual(self.store.find().jobs, (short,))
        self.assertEqual(self.store.active(), [short])

    def test_one_asset_is_brought_by_one_job_at_a_time(self):
        first, second = a_job(location="s3://b/x"), a_job(location="s3://b/x")
        self.store.add([first])
        with self.assertRaises(InFlightError) as caught:
            self.store.add([a_job(), second])
        self.assertEqual(caught.exception.job_ids, {"s3://b/x": first.id})
        self.assertIn(first.id, str(caught.exception))
        self.assertEqual(self.store.find().total, 1, "all of them, or none")
        self.assertEqual(self.store.in_flight(["s3://b/x", "s3://b/y"]), {"s3://b/x": first.id})
        self.store.update(first.id, state=JobState.FAILED)
        self.assertEqual(self.store.in_flight(["s3://b/x"]), {})
        self.store.add([second])

    def test_bare_scripts_are_never_in_each_others_way(self):
        self.store.add([a_job(location=""), a_job(location="")])
        self.assertEqual(self.store.in_flight([""]), {})

    def test_of_many_submissions_of_one_asset_at_once_exactly_one_wins(self):
        others = [JobStore(self.url) for _ in range(3)]
        barrier = threading.Barrier(8)

        def submit(number: int) -> str:
            job = a_job(location="s3://b/contested")
            barrier.wait()
            try:
                [self.store, *others][number % 4].add([a_job(), job])
            except InFlightError as error:
                return error.job_ids["s3://b/contested"]
            return job.id

        with ThreadPoolExecutor(8) as pool:
            winners = set(pool.map(submit, range(8)))
        for other in others:
            other.close()
        self.assertEqual(len(winners), 1, "everyone is told of the same job")
        self.assertEqual(self.store.find().total, 2)

    @slow
    def test_many_threads_and_processes_change_jobs_without_losing_a_change(self):
        jobs = [a_job() for _ in range(4)]
        self.store.add(jobs)
        other = JobStore(self.url)

        def tell(number: int) -> None:
            store = (self.store, other)[number % 2]
            store.update(jobs[number % 4].id, events=[an_event(message=str(number))])
            store.find(JobQuery(text="anna"))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(tell, range(80)))
        other.close()
        self.assertEqual(sum(len(self.store.events(job.id)) for job in jobs), 80)

    def test_a_change_is_seen_and_stamped(self):
        job = a_job()
        self.store.add([job])
        running = self.store.update(job.id, state=JobState.RUNNING, bytes_done=2**40, step="verify")
        self.assertEqual(running.bytes_done, 2**40)
        self.assertIsNotNone(running.started_at)
        self.assertGreater(running.updated_at, job.updated_at)
        ended = self.store.update(job.id, state=JobState.COMPLETED, ended_at=NOON, exit_code=0)
        self.assertEqual((ended.ended_at, ended.exit_code), (NOON, 0))
        whole = replace(ended, upload_job_settings='{"subject_id": "1"}', hpc_settings="{}")
        self.assertEqual(self.store.get(job.id), whole)

    def test_a_state_that_may_not_follow_is_refused_and_changes_nothing(self):
        job = a_job()
        self.store.add([job])
        self.store.update(job.id, state=JobState.COMPLETED)
        with self.assertRaisesRegex(TransitionError, "is COMPLETED and cannot become RUNNING"):
            self.store.update(job.id, state=JobState.RUNNING, reason="no", events=[an_event()])
        self.assertEqual(self.store.get(job.id).reason, "")
        self.assertEqual(self.store.events(job.id), [])

    def test_one_refused_change_leaves_the_others_alone(self):
        ended, alive = a_job(), a_job()
        self.store.add([ended, alive])
        self.store.update(ended.id, state=JobState.CANCELLED)
        applied = self.store.apply(
            [
                JobChange(ended.id, JobState.RUNNING),
                JobChange("nowhere", JobState.RUNNING),
                JobChange(alive.id, JobState.RUNNING),
            ]
        )
        self.assertEqual([job.id for job in applied.jobs], [alive.id])
        self.assertEqual(set(applied.refused), {ended.id, "nowhere"})

    def test_events_read_twice_are_recorded_once(self):
        job = a_job()
        self.store.add([job])
        change = JobChange(job.id, None, {"events_offset": 10}, [an_event()], from_offset=0)
        self.assertEqual(len(self.store.apply([change]).jobs), 1)
        self.assertIn(job.id, self.store.apply([change]).refused)
        self.assertEqual(len(self.store.events(job.id)), 1)

    def test_what_was_submitted_cannot_be_changed(self):
        job = a_job()
        self.store.add([job])
        with self.assertRaisesRegex(ValueError, "script"):
            self.store.update(job.id, script="#!/bin/sh")

    def test_events_come_back_in_order_and_the_last_ones_where_there_are_many(self):
        job = a_job()
        self.store.add([job])
        told = [an_event(message=str(number), figures={"n": number}) for number in range(30)]
        self.store.add_events(job.id, told)
        self.assertEqual(self.store.events(job.id), told)
        self.assertEqual(self.store.events(job.id, limit=3), told[-3:])
        self.assertEqual(self.store.events("nowhere"), [])

    def test_text_finds_names_people_projects_subjects_and_ids_in_any_case(self):
        job = a_job(submitter="Zoë Brown", project_name="Thalamus 100%_x")
        self.store.add([a_job(), job, a_job()])
        for text in (job.id, job.id[3:], job.name.upper(), "ZOË", "brown thal", job.subject_id):
            self.assertEqual(
                [one.id for one in self.store.find(JobQuery(text=text)).jobs], [job.id]
            )
        for text in ("zoë apple", "%", "_y", "' OR 1=1 --", "\\"):
            expected = 1 if text == "%" else 0
            self.assertEqual(self.store.find(JobQuery(text=text)).total, expected, text)

    def test_short_words_do_not_meet_ids_by_chance(self):
        other = a_job(id="07a1707cdek9", name="job 12", subject_id="1")
        self.store.add([other, a_job(name="job 07", subject_id="1")])
        for text in ("07", "job 07", "07 job"):
            found = self.store.find(JobQuery(text=text)).jobs
            self.assertEqual([one.name for one in found], ["job 07"])
        self.assertEqual(self.store.find(JobQuery(text="a1707c")).total, 1)

    def test_lists_are_filtered_by_state_person_and_date(self):
        jobs = [a_job(submitted_at=NOON + timedelta(days=day)) for day in range(6)]
        jobs[2] = replace(jobs[2], submitter="Ben")
        self.store.add(jobs)
        self.store.update(jobs[1].id, state=JobState.FAILED)
        self.store.update(jobs[2].id, state=JobState.RUNNING)

        def found(**filters):
            query = JobQuery(**({"descending": False} | filters))
            return [jobs.index(next(j for j in jobs if j.id == o.id)) for o in self._all(query)]

        self.assertEqual(found(states=[JobState.FAILED]), [1])
        self.assertEqual(found(states=[JobState.FAILED, JobState.RUNNING]), [1, 2])
        self.assertEqual(found(submitter="Ben"), [2])
        self.assertEqual(found(since=NOON + timedelta(days=4)), [4, 5])
        self.assertEqual(found(until=NOON + timedelta(days=2)), [0, 1])
        self.assertEqual(
            found(since=NOON, until=NOON + timedelta(3), text="anna", states=[JobState.SUBMITTED]),
            [0],
        )

    @slow
    def test_every_column_sorts_both_ways_and_pages_fit_together(self):
        jobs = [
            a_job(
                name=f"n{number % 7}",
                submitter=f"person-{number % 3}",
                started_at=NOON + timedelta(hours=number % 5) if number % 4 else None,
            )
            for number in range(23)
        ]
        self.store.add(jobs)
        numbers = {job.id: number for number, job in enumerate(jobs)}
        for sort in SORTABLE:
            for descending in (True, False):
                for text in ("", "person-1"):
                    query = JobQuery(sort=sort, descending=descending, page_size=5, text=text)
                    listed = [
                        job.id for page in range(1, 7) for job in self._page(query, page).jobs
                    ]
                    wanted = sorted(
                        (job for job in jobs if text in job.submitter),
                        key=lambda job: (_rank(getattr(job, sort)), numbers[job.id]),
                        reverse=descending,
                    )
                    self.assertEqual(listed, [job.id for job in wanted], (sort, descending, text))

    def test_a_page_beyond_the_end_is_empty(self):
        self.store.add([a_job(), a_job()])
        page = self.store.find(JobQuery(page=9))
        self.assertEqual((page.jobs, page.total), ((), 2))

    @slow
    def test_a_list_that_cannot_be_made_is_refused(self):
        for wrong in ({"sort": "script"}, {"page": 0}, {"page_size": 0}, {"page_size": 10**6}):
            with self.assertRaises(ValueError):
                JobQuery(**wrong)

    def test_counts_and_submitters(self):
        jobs = [a_job(submitter=name) for name in ("Ben", "Anna", "Ben", "")]
        self.store.add(jobs)
        self.store.update(jobs[0].id, state=JobState.FAILED)
        counts = self.store.counts()
        self.assertEqual((counts[JobState.SUBMITTED], counts[JobState.FAILED]), (3, 1))
        self.assertEqual(set(counts), set(JobState))
        self.assertEqual(self.store.submitters(), ["Anna", "Ben"])

    def test_what_is_recorded_is_there_when_opened_again(self):
        job = a_job()
        self.store.add([job])
        self.store.close()
        self.store = JobStore(self.url)
        self.store.ping()
        self.assertEqual(self.store.get(job.id), job)

    def test_bucket_words_that_an_earlier_release_recorded_are_marked(self):
        texts = {
            '{"s3_bucket": "private"}': True,
            '{"subject_id": "1", "s3_bucket":"scratch"}': True,
            '{"s3_bucket": "lab-private"}': False,
            '{"s3_bucket": null, "project_name": "open"}': False,
            '{"project_name": "private"}': False,
            '["private"]': False,
            '{"private"': False,
            "": False,
        }
        jobs = [a_job(upload_job_settings=text) for text in texts]
        self.store.close()
        write_older_database(self.url, jobs, "0007")
        self.store = JobStore(self.url)
        found = self.store.get_many([job.id for job in jobs])
        self.assertEqual(
            list(texts.items()), [(job.upload_job_settings, job.has_bucket_word) for job in found]
        )
        new = a_job(upload_job_settings='{"s3_bucket": "private"}')
        self.store.add([new])
        self.assertFalse(self.store.get(new.id).has_bucket_word)

    def test_changes_of_interest_wait_in_the_outbox_for_one_taker(self):
        store = JobStore(self.url, keep_notices=True)
        self.addCleanup(store.close)
        job, other = a_job(), a_job()
        store.add([job, other])
        for state in (JobState.PENDING, JobState.RUNNING):
            store.update(job.id, state=state)
        store.update(job.id, step="verify")
        store.update(job.id, state=JobState.FAILED, reason="no\0room")
        self.store.update(other.id, state=JobState.FAILED)  # by a store that keeps no notices
        begun, failed = store.outbox.take(timedelta(minutes=5))
        self.assertEqual((job.id, JobState.RUNNING, ""), (begun.job_id, begun.after, begun.address))
        self.assertEqual((JobState.RUNNING, "no\ufffdroom"), (failed.before, failed.reason))
        self.assertEqual([], self.store.outbox.take(timedelta(minutes=5)))
        store.outbox.address(begun, [])
        store.outbox.address(failed, ["mailto:a@b.org", "webhook:"])
        store.outbox.address(failed, ["mailto:late@b.org"])  # which was done already
        first, second = self.store.outbox.take(timedelta(minutes=5))
        self.assertEqual(["mailto:a@b.org", "webhook:"], [first.address, second.address])
        self.assertEqual(failed.created_at, first.created_at)
        store.outbox.done(first)
        store.outbox.postpone(timedelta(0), second)
        [again] = store.outbox.take(timedelta(minutes=5))
        self.assertEqual((second.seq, 1), (again.seq, again.tries))
        self.assertEqual(1, store.outbox.waiting())

    def test_two_takers_never_take_the_same_notice(self):
        store = JobStore(self.url, keep_notices=True)
        self.addCleanup(store.close)
        jobs = [a_job() for _ in range(40)]
        store.add(jobs)
        store.apply([JobChange(job.id, JobState.FAILED) for job in jobs])
        with ThreadPoolExecutor(4) as pool:
            takes = pool.map(lambda _: store.outbox.take(timedelta(minutes=5), 10), range(8))
            taken = [notice.seq for notices in takes for notice in notices]
        taken += [notice.seq for notice in store.outbox.take(timedelta(minutes=5))]
        self.assertEqual((40, 40), (len(taken), len(set(taken))))

    def test_the_end_of_a_log_is_stored_piece_by_piece_and_once(self):
        job, other = a_job(), a_job()
        self.store.add([job, other])
        logs = self.store.logs
        for offset, text, is_taken, position in (
            (0, "one\n", True, 4),
            (0, "one\n", False, 4),
            (4, "\0zwei ☃\n", True, 14),
            (100, "half\nthree\n", True, 111),
        ):
            brought = logs.append(job.id, "stderr", offset, len(text.encode()), text)
            self.assertEqual((is_taken, position), (brought.is_taken, brought.position))
        told = "one\n\ufffdzwei ☃\n[…]\nthree\n".encode()
        self.assertEqual(told, logs.read(job.id, "stderr", 0, 1000).data)
        self.assertEqual(b"e\n", logs.read(job.id, "stderr", -2, 1000).data)
        self.assertEqual(0, logs.read(job.id, "stdout", 0, 1000).size)
        self.assertEqual(0, logs.read(other.id, "stderr", 0, 1000).size)
        self.assertFalse(logs.append("nowhere", "stderr", 0, 1, "x").is_taken)

    def test_a_private_key_that_comes_line_by_line_is_not_stored(self):
        job, rows = a_job(), [f"MIIE{number:02}/abcdefghijklmnop" for number in range(5)]
        self.store.add([job])
        key = ["-----BEGIN EC PRIVATE KEY-----", *rows, "-----END EC PRIVATE KEY-----"]
        place = 0
        for line in ("one: 1", *key, "two words", *key, "three: 3"):
            self.store.logs.append(job.id, "stderr", place, len(line) + 1, f"{line}\n")
            place += len(line) + 1
        text = self.store.logs.read(job.id, "stderr", 0, 10**6).data.decode()
        for row in rows:
            self.assertNotIn(row[6:], text)
        self.assertRegex(
            text, r"(?s)^one: 1\n-----BEGIN.*END.*\ntwo words\n-----BEGIN.*three: 3\n$"
        )
        self.store.logs.append(job.id, "stdout", 0, 9, f"{key[0]}\n")
        self.store.logs.append(job.id, "stdout", 999, 9, f"lost\n{rows[0]}\n{key[-1]}\n")
        text = self.store.logs.read(job.id, "stdout", 0, 10**6).data.decode()
        self.assertNotIn(rows[0][6:], text)

    def test_of_a_long_log_the_end_is_stored_and_its_places_stay_the_same(self):
        job = a_job()
        self.store.add([job])
        lines = [f"line {number:06}\n" for number in range(20_000)]
        data = "".join(lines)
        for start in range(0, len(data), 60_000):
            piece = data[start : start + 60_000]
            self.store.logs.append(job.id, "stdout", start, len(piece), piece)
        found = self.store.logs.read(job.id, "stdout", 0, 10**6)
        self.assertEqual((LOG_TAIL_BYTES, len(data)), (len(found.data), found.size))
        self.assertEqual(data[found.offset :], found.data.decode())
        middle = self.store.logs.read(job.id, "stdout", len(data) - 24, 12)
        self.assertEqual((lines[-2], len(data) - 24), (middle.data.decode(), middle.offset))

    def test_a_log_is_deleted_with_its_job(self):
        job = a_job(state=JobState.COMPLETED, ended_at=utc_now() - timedelta(days=9))
        self.store.add([job])
        self.store.logs.append(job.id, "stdout", 0, 1, "x")
        before = utc_now() - timedelta(days=1)
        [(seq, _)] = self.store.old_jobs.find(before)
        self.assertEqual(1, self.store.old_jobs.delete([seq], before))
        self.assertEqual(0, self.store.logs.read(job.id, "stdout", 0, 1).size)

    def test_a_job_is_claimed_only_as_long_as_nobody_cancelled_or_took_it(self):
        free, cancelled, wished, taken = jobs = [a_job() for _ in range(4)]
        self.store.add(jobs)
        self.store.update(cancelled.id, state=JobState.CANCELLED)
        self.store.update(wished.id, cancel_requested=True)
        self.store.update(taken.id, executor="slurm", executor_ref="7")
        ids = [job.id for job in jobs]
        self.assertEqual({free.id}, self.store.claims.take(ids, "slurm"))
        self.assertEqual("slurm", self.store.get(free.id).executor)
        self.assertEqual({free.id, wished.id}, self.store.claims.give_back(ids))
        self.assertEqual(("", "slurm"), tuple(self.store.get(x.id).executor for x in (free, taken)))
        self.store.update(free.id, state=JobState.FAILED, executor="slurm", executor_ref="8")
        self.assertEqual(["7", "8"], sorted(self.store.claims.references()))

    @slow
    def test_either_a_claim_or_a_cancellation_comes_first(self):
        jobs = [a_job() for _ in range(40)]
        self.store.add(jobs)
        other = JobStore(self.url)
        self.addCleanup(other.close)

        def cancel(job):
            only_if = {"state": JobState.SUBMITTED, "executor": ""}
            change = JobChange(job.id, JobState.CANCELLED, only_if=only_if)
            return {one.id for one in other.apply([change]).jobs}

        with ThreadPoolExecutor(4) as pool:
            claims = [pool.submit(self.store.claims.take, [job.id], "slurm") for job in jobs]
            ends = [pool.submit(cancel, job) for job in reversed(jobs)]
        claimed = set().union(*(one.result() for one in claims))
        cancelled = set().union(*(one.result() for one in ends))
        self.assertEqual({job.id for job in jobs}, claimed | cancelled)
        self.assertEqual(set(), claimed & cancelled)

    def _page(self, query, page):
        return self.store.find(replace(query, page=page))

    def _all(self, query):
        return self.store.find(query).jobs


def _rank(value):
    """Sort nothing before something."""
    return (value is not None, value) if value is not None else (False,)
