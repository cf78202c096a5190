"""How long the store of jobs takes for a page of a list, with many jobs recorded.

::

    python benchmarks/job_store.py [--jobs 100000] [--url postgresql://…] [--rounds 5]

Each line is one kind of list: the median and the slowest of several rounds, in milliseconds. Every
page is compared with what plain Python makes of the same jobs. PostgreSQL is given the housekeeping
(`VACUUM ANALYZE`) that its autovacuum does within a minute.
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from aind_data_transfer_service.jobs.models import Job, new_job_id
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store.job_store import JobQuery, JobStore
from aind_data_transfer_service.jobs.store.tables import SORTABLE

GOAL_MS = 100.0
_STATES = [JobState.COMPLETED] * 90 + [JobState.FAILED] * 7 + [JobState.CANCELLED] * 2
_PEOPLE = [f"{first} {last}" for first in ("Anna", "Ben", "Chi", "Dee") for last in "ABCDEFGHIJ"]
_PROJECTS = [
    "Ephys Platform",
    "Learning mFISH-V1omFISH",
    "Thalamus in the middle",
    "Brain Computer",
]
_START = datetime(2024, 1, 1, tzinfo=UTC)


def make_jobs(count: int, seed: int = 1) -> list[Job]:
    """Make jobs as a lab would have them after some years."""
    lot = random.Random(seed)
    return [_make_job(number, lot) for number in range(count)]


def _make_job(number: int, lot: random.Random) -> Job:
    """Make one job."""
    submitted = _START + timedelta(minutes=number * 7)
    subject = str(lot.randrange(600_000, 800_000))
    state = JobState.RUNNING if number % 1000 == 999 else lot.choice(_STATES)
    name = f"behavior_{subject}_{submitted:%Y-%m-%d_%H-%M-%S}"
    ended = None if state is JobState.RUNNING else submitted + timedelta(minutes=lot.randrange(300))
    return Job(
        id=new_job_id(),
        name=name,
        state=state,
        submitter=lot.choice(_PEOPLE),
        project_name=lot.choice(_PROJECTS),
        platform="behavior",
        subject_id=subject,
        modalities="behavior,behavior-videos",
        acq_datetime=submitted.isoformat(),
        location=f"s3://aind-data/{name}",
        upload_job_settings="{" + '"key": "value", ' * 40 + "}",
        hpc_settings="{}",
        executor="local",
        executor_ref=str(number),
        submitted_at=submitted,
        started_at=submitted + timedelta(seconds=lot.randrange(600)),
        ended_at=ended,
        updated_at=ended or submitted,
    )


def cases(jobs: list[Job]) -> Iterator[tuple[str, JobQuery]]:
    """List the kinds of lists."""
    last = max(1, len(jobs) // 50)
    person = _PEOPLE[3]
    yield "first page", JobQuery()
    yield "middle page", JobQuery(page=last // 2)
    yield "last page", JobQuery(page=last)
    for column in SORTABLE:
        yield f"by {column}", JobQuery(sort=column, descending=False)
        yield f"by {column}, middle page", JobQuery(sort=column, page=last // 2)
    yield "one state", JobQuery(states=[JobState.FAILED])
    yield "one state, by name", JobQuery(states=[JobState.COMPLETED], sort="name", page=last // 3)
    yield "three states, by subject", JobQuery(
        states=[JobState.COMPLETED, JobState.FAILED, JobState.RUNNING], sort="subject_id", page=500
    )
    yield "one person", JobQuery(submitter=person, sort="ended_at")
    yield "one month", JobQuery(since=_START + timedelta(days=300), until=_START + timedelta(330))
    yield "text, a common word", JobQuery(text="ephys")
    yield "text, a common word, by name, deep", JobQuery(text="ephys", sort="name", page=200)
    yield "text, every job, by name, middle", JobQuery(text="behavior", sort="name", page=last // 2)
    yield "text, every job, by person, deep", JobQuery(text="2", sort="submitter", page=last // 3)
    yield "text, one subject", JobQuery(text=jobs[len(jobs) // 2].subject_id, sort="submitter")
    yield "text, one id", JobQuery(text=jobs[len(jobs) // 3].id)
    yield "text, two words", JobQuery(text="anna thalamus", sort="project_name")
    yield "text, no job", JobQuery(text="no such thing", sort="state")
    yield "all filters", JobQuery(
        states=[JobState.COMPLETED, JobState.CANCELLED],
        text="2024 behavior",
        submitter=person,
        since=_START,
        sort="ended_at",
        page=2,
    )


def expected(jobs: list[Job], query: JobQuery) -> tuple[list[str], int]:
    """Make the same list in plain Python; `jobs` are in the order of their submission."""
    words = query.text.casefold().split()
    found = [
        (getattr(job, query.sort), number, job.id)
        for number, job in enumerate(jobs)
        if (not query.states or job.state in query.states)
        and (not query.submitter or job.submitter == query.submitter)
        and (query.since is None or job.submitted_at >= query.since)
        and (query.until is None or job.submitted_at < query.until)
        and all(word in _haystack(job) for word in words)
    ]
    floor = datetime.min.replace(tzinfo=UTC)
    found.sort(key=lambda entry: (entry[0] or floor, entry[1]), reverse=query.descending)
    start = (query.page - 1) * query.page_size
    return [entry[2] for entry in found[start : start + query.page_size]], len(found)


def _haystack(job: Job) -> str:
    """Compose what text is looked for in."""
    parts = (job.id, job.name, job.submitter, job.project_name, job.subject_id)
    return " ".join(parts).casefold()


def tidy(url: str) -> None:
    """Have PostgreSQL do at once what it does by itself before long."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def measure(store: JobStore, jobs: list[Job], rounds: int) -> float:
    """Measure and print all cases; give the slowest median in milliseconds."""
    slowest = 0.0
    for label, query in cases(jobs):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            page = store.find(query)
            times.append((time.perf_counter() - start) * 1000)
        ids, total = expected(jobs, query)
        if [job.id for job in page.jobs] != ids or page.total != total:
            raise SystemExit(f"{label}: the page is not the right one")
        median = statistics.median(times)
        slowest = max(slowest, median)
        print(f"{label:36} {page.total:8d} {median:9.1f} {max(times):9.1f}", flush=True)
    for label, ask in (("counts", store.counts), ("submitters", store.submitters)):
        start = time.perf_counter()
        ask()
        print(f"{label:36} {'':8} {(time.perf_counter() - start) * 1000:9.1f}")
    return slowest


def main() -> None:
    """Fill a store, measure it, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", help="default: an SQLite file in a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = JobStore(options.url or f"sqlite:///{folder}/jobs.sqlite3")
        jobs = make_jobs(options.jobs)
        start = time.perf_counter()
        store.add(jobs)
        print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python", end=" ")
        print(f"{platform.python_version()}; {len(jobs)} jobs recorded in", end=" ")
        print(f"{time.perf_counter() - start:.1f} s\n")
        if options.url:
            tidy(options.url)
        print(f"{'list':36} {'jobs':>8} {'median ms':>9} {'worst ms':>9}")
        slowest = measure(store, jobs, options.rounds)
        store.close()
    print(f"\nslowest median {slowest:.1f} ms; goal below {GOAL_MS:.0f} ms")


if __name__ == "__main__":
    main()
