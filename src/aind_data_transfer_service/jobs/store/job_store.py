"""Where jobs are recorded. All that the database does stands here and in `jobs.store.engine`.

The store is called from threads and may be shared by several processes. Every change of a state is
checked in the transaction that makes it.
"""

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any, Self, TypeVar

import sqlalchemy as sa

from aind_data_transfer_service.errors import (
    EventsElsewhere,
    InFlightError,
    JobNotFound,
    TransitionError,
)
from aind_data_transfer_service.jobs.models import (
    INTERNAL_FIELDS,
    REQUEST_FIELDS,
    Job,
    JobEvent,
    figures_to_text,
    storable,
    utc_now,
)
from aind_data_transfer_service.jobs.states import ACTIVE, ENDED, JobState, check_transition
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.dispatch_claims import Claims
from aind_data_transfer_service.jobs.store.engine import Database, chunks
from aind_data_transfer_service.jobs.store.job_logs import JobLogs
from aind_data_transfer_service.jobs.store.old_jobs import OldJobs
from aind_data_transfer_service.jobs.store.outbox import Outbox, note_change
from aind_data_transfer_service.jobs.store.post_upload_queue import OpenEnds
from aind_data_transfer_service.jobs.store.queries import JobQuery, count_statement, page_statement
from aind_data_transfer_service.jobs.store.replica_queries import Requests
from aind_data_transfer_service.jobs.store.service_lease import ServiceLease
from aind_data_transfer_service.jobs.store.threads import ANSWER_SECONDS, PoolName, StoreThreads
from aind_data_transfer_service.redaction import redact, redact_all

_LONG_FIELDS = (*REQUEST_FIELDS, *INTERNAL_FIELDS, "warnings")
_ROW_FIELDS = tuple(entry.name for entry in fields(Job) if entry.name not in _LONG_FIELDS)
_ROW_COLUMNS = tuple(tables.jobs.c[name] for name in _ROW_FIELDS)
_FIXED_FIELDS = frozenset({"id", "submitted_at", *_LONG_FIELDS})
_FROM_OUTSIDE = (
    *("reason", "node", "analysis_reason", "registration_reason"),
    *("data_asset_link", "computation_link"),
)
"""The fields with text of others, which may repeat a secret of ours."""
EVENT_CHARACTERS = 2 * 1024**2
"""Of the events of one job that are listed."""
LONGEST_TEXT = 8192
"""Characters of any text in a job's row, such as a reason that another system gave."""
MOST_SUBMITTERS = 500
_TRIES = 3
T = TypeVar("T")

__all__ = ["Applied", "JobChange", "JobPage", "JobQuery", "JobStore"]


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of a list of jobs, without their long fields."""

    jobs: tuple[Job, ...]
    total: int
    """How many jobs the whole list has."""


@dataclass(frozen=True, slots=True)
class JobChange:
    """What is to become of one job."""

    job_id: str
    state: JobState | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    """New values of the job's other fields."""
    events: Sequence[JobEvent] = ()
    """What it told since."""
    from_offset: int | None = None
    """Where in the file of events these begin; refused where they have been read already."""
    only_if: Mapping[str, Any] = field(default_factory=dict)
    """Fields and the values that they must have; refused if one has another by now."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of several changes: the jobs as they are now, and what could not be done."""

    jobs: tuple[Job, ...]
    refused: Mapping[str, Exception]


class JobStore:
    """The record of all jobs.

    Parameters
    ----------
    url : str
        SQLAlchemy address of an SQLite file or a PostgreSQL database. Its tables are made, or
        brought up to date, at once.
    keep_notices : bool
        Whether changes of states are written into the outbox, for somebody to tell people of.
    answer_seconds : float
        How long an answer of the database is waited for, by `in_thread`.
    """

    def __init__(
        self, url: str, keep_notices: bool = False, answer_seconds: float = ANSWER_SECONDS
    ):
        self._keep_notices = keep_notices
        self._answer_seconds = answer_seconds
        self._threads = StoreThreads()
        database = Database(url)
        database.migrate()
        self.lease = ServiceLease(database)
        self.requests = Requests(database)
        self._use(database)

    def _use(self, database: Database) -> None:
        """Read and write in a database."""
        self._database = database
        self.outbox = Outbox(database)
        self.open_ends = OpenEnds(database)
        self.claims = Claims(database)
        self.logs = JobLogs(database)
        self.old_jobs = OldJobs(database)

    def fenced(self, fencing: int) -> Self:
        """Return the same store for the holder of the lease alone: nobody else can write with it.

        Parameters
        ----------
        fencing : int
            The fencing number since which this process holds the lease.
        """
        fenced = copy.copy(self)
        fenced._use(self._database.fenced(self.lease.fence(fencing)))
        return fenced

    async def in_thread(
        self,
        work: Callable[..., T],
        *arguments: Any,
        pool: PoolName = "work",
        seconds: float | None = None,
    ) -> T:
        """Do something that asks the database, in one of the store's own threads.

        Parameters
        ----------
        work : Callable
            What is done, such as a method of the store.
        *arguments
            What it is called with.
        pool : str
            Which threads do it.
        seconds : float
            How long the answer is waited for, if not as long as others.

        Raises
        ------
        StoreUnavailable
            If there is no answer in time.
        """
        seconds = self._answer_seconds if seconds is None else seconds
        return await self._threads.run(pool, partial(work, *arguments), seconds)

    def add(self, jobs: Sequence[Job]) -> None:
        """Record new jobs: all of them, or none.

        Raises
        ------
        InFlightError
            Where a job is not ended yet that brings the same asset. The database itself decides
            between two that are recorded at the same moment.
        """
        for attempt in range(_TRIES):
            try:
                with self._database.writing() as connection:
                    _insert_jobs(connection, jobs)
                return
            except sa.exc.IntegrityError:
                in_the_way = self.in_flight([job.location for job in jobs])
                if in_the_way:
                    raise InFlightError(in_the_way) from None
                if attempt == _TRIES - 1:  # not merely one that ended just now
                    raise

    def get(self, job_id: str) -> Job:
        """Read one job, whole.

        Raises
        ------
        JobNotFound
            Where no job has this id.
        """
        return self.get_many([job_id])[0]

    def get_many(self, job_ids: Sequence[str]) -> list[Job]:
        """Read several jobs, whole, in the order of their ids as given."""
        found: dict[str, Job] = {}
        with self._database.reading() as connection:
            for chunk in chunks(job_ids):
                query = (
                    sa.select(*_ROW_COLUMNS, *_REQUEST_COLUMNS)
                    .join(tables.requests, tables.requests.c.job_seq == tables.jobs.c.seq)
                    .where(tables.jobs.c.id.in_(chunk))
                )
                found.update((row.id, _whole_job(row)) for row in connection.execute(query))
        for job_id in job_ids:
            if job_id not in found:
                raise JobNotFound(f"there is no job {job_id}")
        return [found[job_id] for job_id in job_ids]

    def find(self, query: JobQuery = JobQuery()) -> JobPage:
        """List jobs, a page at a time, without their long fields."""
        is_sqlite = self._database.is_sqlite
        with self._database.reading() as connection:
            total = connection.scalar(count_statement(query, is_sqlite))
            rows = connection.execute(page_statement(query, _ROW_COLUMNS, total, is_sqlite)).all()
        jobs = [_row_job(row) for row in rows]
        return JobPage(jobs=tuple(jobs), total=total)

    def active(self) -> list[Job]:
        """List all jobs that have not ended, the oldest first, without their long fields."""
        states = sorted(state.value for state in ACTIVE)
        query = (
            sa.select(*_ROW_COLUMNS)
            .where(tables.jobs.c.state.in_(states))
            .order_by(tables.jobs.c.seq)
        )
        with self._database.reading() as connection:
            return [_row_job(row) for row in connection.execute(query)]

    def update(
        self,
        job_id: str,
        *,
        state: JobState | None = None,
        events: Sequence[JobEvent] = (),
        **values: Any,
    ) -> Job:
        """Change one job, and give it as it is then, without its long fields.

        Raises
        ------
        JobNotFound
            Where no job has this id.
        TransitionError
            Where the state may not follow the one that the job is in.
        """
        applied = self.apply([JobChange(job_id, state, values, events)])
        for error in applied.refused.values():
            raise error
        return applied.jobs[0]

    def apply(self, changes: Sequence[JobChange]) -> Applied:
        """Make several changes at once; one that may not be made leaves the others alone.

        A job that comes to run or to end without a time being named gets the present one.
        """
        jobs: list[Job] = []
        refused: dict[str, Exception] = {}
        for chunk in chunks(changes):
            with self._database.writing() as connection:
                rows = _lock_rows(connection, [change.job_id for change in chunk])
                for change in chunk:
                    if change.job_id not in rows:
                        refused[change.job_id] = JobNotFound(f"there is no job {change.job_id}")
                        continue
                    seq, old = rows[change.job_id]
                    try:
                        new = _changed(old, change)
                    except TransitionError as error:
                        refused[change.job_id] = error
                        continue
                    _write_row(connection, seq, old, new)
                    _insert_events(connection, seq, change.events)
                    if self._keep_notices:
                        note_change(connection, seq, old, new)
                    rows[change.job_id] = (seq, new)
                    jobs.append(new)
        return Applied(jobs=tuple(jobs), refused=refused)

    def add_events(self, job_id: str, events: Sequence[JobEvent]) -> None:
        """Record what a job did."""
        self.update(job_id, events=events)

    def events(self, job_id: str, limit: int = 2000) -> list[JobEvent]:
        """List what a job did, in order; the last `limit` events where there are more.

        Their texts have `EVENT_CHARACTERS` together, so that no page is larger than a browser can
        show.
        """
        columns = tables.events.c
        newest = (
            sa.select(tables.events)
            .join(tables.jobs, tables.jobs.c.seq == columns.job_seq)
            .where(tables.jobs.c.id == job_id)
            .order_by(columns.seq.desc())
            .limit(limit)
            .subquery()
        )
        length = sa.func.length(newest.c.message) + sa.func.length(newest.c.figures)
        total = sa.func.sum(length).over(order_by=newest.c.seq.desc())
        summed = sa.select(newest, total.label("total")).subquery()
        wanted = [summed.c[column.name] for column in columns]
        fitting = sa.select(*wanted).where(summed.c.total <= EVENT_CHARACTERS)
        with self._database.reading() as connection:
            rows = connection.execute(fitting.order_by(summed.c.seq.desc())).all()
        return [_event(row) for row in reversed(rows)]

    def in_flight(self, locations: Iterable[str]) -> dict[str, str]:
        """Tell which assets are being brought at this moment, and by which job."""
        found: dict[str, str] = {}
        with self._database.reading() as connection:
            for chunk in chunks(sorted(set(locations) - {""})):
                query = sa.select(tables.jobs.c.location, tables.jobs.c.id).where(
                    tables.jobs.c.location.in_(chunk), tables.IN_FLIGHT
                )
                found.update((row.location, row.id) for row in connection.execute(query))
        return found

    def counts(self) -> dict[JobState, int]:
        """Tell how many jobs are in each state; every state is named."""
        query = sa.select(tables.jobs.c.state, sa.func.count()).group_by(tables.jobs.c.state)
        counts = dict.fromkeys(JobState, 0)
        with self._database.reading() as connection:
            counts.update((JobState(state), count) for state, count in connection.execute(query))
        return counts

    def submitters(self) -> list[str]:
        """List who submitted jobs, in order: the first `MOST_SUBMITTERS`."""
        query = (
            sa.select(tables.jobs.c.submitter)
            .where(tables.jobs.c.submitter != "")
            .distinct()
            .order_by(tables.jobs.c.submitter)
            .limit(MOST_SUBMITTERS)
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def ping(self) -> None:
        """Make sure that the database answers; raises what SQLAlchemy raises where it does not."""
        with self._database.reading() as connection:
            connection.execute(sa.select(sa.literal(1)))

    def close(self) -> None:
        """Close all connections."""
        self._threads.close()
        self._database.close()


_REQUEST_COLUMNS = tuple(tables.requests.c[name] for name in _LONG_FIELDS)


def _search_text(job: Job) -> str:
    """Compose what the text filter looks at; the id comes first (see `query`)."""
    parts = (job.id, job.name, job.submitter, job.project_name, job.subject_id)
    return storable(" ".join(parts)).casefold()


def recorded(name: str, value: Any) -> Any:
    """Return a value of a job as the store records it: texts without secrets, and cut to size.

    Parameters
    ----------
    name : str
        The name of the field.
    value : Any
        What a change has for it.
    """
    if not isinstance(value, str):
        return value
    text = redact(value) if name in _FROM_OUTSIDE else str(value)
    return storable(text[:LONGEST_TEXT])


def _row_values(job: Job) -> dict[str, Any]:
    """Compose a job's row."""
    values = {name: getattr(job, name) for name in _ROW_FIELDS}
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = storable(str(value)[:LONGEST_TEXT])
    return values


def _insert_jobs(connection: sa.Connection, jobs: Sequence[Job]) -> None:
    """Write new jobs, and what was asked of them."""
    for chunk in chunks(jobs):
        rows = [{**_row_values(job), "search": _search_text(job)} for job in chunk]
        connection.execute(sa.insert(tables.jobs), rows)
        ids = [job.id for job in chunk]
        seqs = dict(
            connection.execute(
                sa.select(tables.jobs.c.id, tables.jobs.c.seq).where(tables.jobs.c.id.in_(ids))
            ).all()
        )
        connection.execute(
            sa.insert(tables.requests),
            [
                {
                    "job_seq": seqs[job.id],
                    **{name: storable(getattr(job, name)) for name in REQUEST_FIELDS},
                    **{name: getattr(job, name) for name in INTERNAL_FIELDS},
                    "warnings": json.dumps(list(job.warnings)),
                }
                for job in chunk
            ],
        )


def _lock_rows(connection: sa.Connection, job_ids: Sequence[str]) -> dict[str, tuple[int, Job]]:
    """Read rows for a change, in an order in which two changers cannot deadlock."""
    query = (
        sa.select(*_ROW_COLUMNS, tables.jobs.c.seq)
        .where(tables.jobs.c.id.in_(job_ids))
        .order_by(tables.jobs.c.seq)
        .with_for_update()
    )
    return {row.id: (row.seq, _row_job(row)) for row in connection.execute(query)}


def _changed(old: Job, change: JobChange) -> Job:
    """Decide what a job is after a change."""
    fixed = _FIXED_FIELDS & change.values.keys()
    if fixed:
        raise ValueError(f"a job's {', '.join(sorted(fixed))} cannot be changed")
    if change.from_offset is not None and change.from_offset != old.events_offset:
        raise EventsElsewhere(f"the events of job {old.id} have been read by others meanwhile")
    for name, expected in change.only_if.items():
        if (found := getattr(old, name)) != expected:
            raise TransitionError(f'job {old.id} has {name} "{found}" by now, not "{expected}"')
    now = utc_now()
    values = {name: recorded(name, value) for name, value in change.values.items()}
    values["updated_at"] = now
    if change.state is not None:
        check_transition(old.id, old.state, change.state)
        values["state"] = change.state
        if change.state is JobState.RUNNING and old.started_at is None:
            values.setdefault("started_at", now)
        if change.state in ENDED and old.ended_at is None and not values.get("ended_at"):
            values["ended_at"] = now
    return replace(old, **values)


def _write_row(connection: sa.Connection, seq: int, old: Job, new: Job) -> None:
    """Write what is different."""
    before, after = _row_values(old), _row_values(new)
    values = {name: value for name, value in after.items() if value != before[name]}
    connection.execute(sa.update(tables.jobs).where(tables.jobs.c.seq == seq).values(values))


def _insert_events(connection: sa.Connection, seq: int, events: Sequence[JobEvent]) -> None:
    """Write events."""
    if events:
        connection.execute(
            sa.insert(tables.events),
            [
                {
                    "job_seq": seq,
                    "time": event.time,
                    "step": storable(event.step),
                    "kind": storable(event.kind),
                    "message": storable(redact(event.message)),
                    "figures": storable(figures_to_text(redact_all(event.figures))),
                }
                for event in events
            ],
        )


def _row_job(row: sa.Row[*tuple[Any, ...]]) -> Job:
    """Read a job without its long fields, from a row that begins with `_ROW_COLUMNS`."""
    values = dict(zip(_ROW_FIELDS, row))
    values["state"] = JobState(values["state"])
    return Job(**values)


def _whole_job(row: sa.Row[*tuple[Any, ...]]) -> Job:
    """Read a job with its long fields."""
    long_fields = {name: getattr(row, name) for name in (*REQUEST_FIELDS, *INTERNAL_FIELDS)}
    return replace(_row_job(row), **long_fields, warnings=tuple(json.loads(row.warnings)))


def _event(row: sa.Row[*tuple[Any, ...]]) -> JobEvent:
    """Read an event."""
    return JobEvent(
        time=row.time,
        step=row.step,
        kind=row.kind,
        message=row.message,
        figures=json.loads(row.figures or "{}"),
    )
