"""The lease in the database: which of several service processes runs the jobs.

The table has one row. It names the holder by a random id of its process, and carries a fencing
number that grows with each holder and a time at which the lease expires, by the database's clock.
A write that only the holder may make checks the row in its own transaction (`fence`), so that a
process that lost the lease without noticing changes nothing.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import sqlalchemy as sa

from aind_data_transfer_service.errors import LeaseLostError
from aind_data_transfer_service.executors.local.executor import LocalExecutor
from aind_data_transfer_service.jobs.models import storable
from aind_data_transfer_service.jobs.states import ACTIVE
from aind_data_transfer_service.jobs.store import tables
from aind_data_transfer_service.jobs.store.engine import Database

_TABLE = tables.service_lease
_SECONDS_OF_SQLITE: sa.ColumnElement[float] = sa.literal_column(
    "(julianday('now') - 2440587.5) * 86400.0"
)
_SECONDS_OF_POSTGRESQL: sa.ColumnElement[float] = sa.literal_column(
    "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
)
LOST = "another process of this service has taken over; this one stands by"


@dataclass(frozen=True, slots=True)
class LeaseState:
    """The lease as it was read."""

    holder: str
    """Random id of the process that holds it; empty if it was released."""
    name: str
    """Host and process id of the holder, for people."""
    place: str
    """Id of the folder in which the holder runs jobs on its own machine; empty on a cluster."""
    fencing: int
    since: datetime
    seconds_left: float
    """Until it expires; negative if it has."""
    expires: float = 0.0
    """When it expires, in seconds since 1970 by the database's clock."""

    @property
    def is_held(self) -> bool:
        """Whether a process holds it and renews it."""
        return bool(self.holder) and self.seconds_left > 0


class ServiceLease:
    """The lease as one process sees it. Its methods block.

    Parameters
    ----------
    database : Database
        Where the row is.
    """

    def __init__(self, database: Database):
        self._database = database
        self._now = _SECONDS_OF_SQLITE if database.is_sqlite else _SECONDS_OF_POSTGRESQL
        self.holder = secrets.token_hex(8)

    def read(self) -> LeaseState:
        """Read who holds the lease."""
        with self._database.reading() as connection:
            return self._read(connection)

    def acquire(
        self,
        seconds: float,
        name: str,
        place: str = "",
        is_dead: Callable[[str], bool] = lambda _: False,
        stale: float | None = None,
    ) -> LeaseState | None:
        """Take the lease if it is free, expired, or held by a process that is dead.

        Parameters
        ----------
        seconds : float
            How long it lasts if it is not renewed.
        name : str
            Host and process id, for people.
        place : str
            Id of the folder in which this process runs jobs on its own machine. While jobs that
            were started in another place have not ended, the lease is not taken: they may still
            run there.
        is_dead : Callable
            Returns whether the process with an id is known to be dead.
        stale : float | None
            An expiry that has not been put off for so long that its holder cannot be alive. It may
            be in the future if the database's clock was set back.

        Returns
        -------
        LeaseState | None
            The lease as it was before; None if it was not taken.
        """
        with self._database.writing() as connection:
            before = self._read(connection, lock=True)
            is_free = not before.is_held or before.holder == self.holder
            is_free = is_free or before.expires == stale or is_dead(before.holder)
            if not is_free or self._is_elsewhere(connection, before, place):
                return None
            now = connection.scalar(sa.select(self._now)) or 0.0
            values = {
                "holder": self.holder,
                "name": storable(name),
                "place": place or before.place,
                "fencing": before.fencing + 1,
                "since": now,
                "expires": now + seconds,
            }
            connection.execute(sa.update(_TABLE).values(values))
        return before

    def renew(self, fencing: int, seconds: float) -> LeaseState | None:
        """Put off the expiry; return None if the lease is another process's by now."""
        mine = sa.update(_TABLE).where(*self._is_mine(fencing))
        with self._database.writing() as connection:
            now = connection.scalar(sa.select(self._now)) or 0.0
            if connection.execute(mine.values(expires=now + seconds)).rowcount != 1:
                return None
            return self._read(connection)

    def release(self, fencing: int) -> None:
        """Let another process have the lease at once, if this one still holds it."""
        mine = sa.update(_TABLE).where(*self._is_mine(fencing))
        with self._database.writing() as connection:
            connection.execute(mine.values(holder="", expires=0.0))

    def fence(self, fencing: int) -> Callable[[sa.Connection], None]:
        """Return a check for transactions of this holder, for `Database.fenced`.

        On PostgreSQL it locks the row until the end of the transaction, so that nobody takes over
        in between; on SQLite nobody else can write meanwhile anyway.
        """
        return partial(self._check, fencing)

    def _check(self, fencing: int, connection: sa.Connection) -> None:
        """Raise `LeaseLostError` if the lease is another process's."""
        mine = sa.select(_TABLE.c.id).where(*self._is_mine(fencing)).with_for_update(read=True)
        if connection.scalar(mine) is None:
            raise LeaseLostError(LOST)

    def _is_mine(self, fencing: int) -> tuple[sa.ColumnElement[bool], ...]:
        """Compose the condition that this process holds the lease, since that number."""
        return _TABLE.c.holder == self.holder, _TABLE.c.fencing == fencing

    def _read(self, connection: sa.Connection, lock: bool = False) -> LeaseState:
        """Read the row, with the time that is left."""
        query = sa.select(_TABLE, self._now.label("now"))
        if lock:
            query = query.with_for_update()
        row = connection.execute(query).one()
        return LeaseState(
            holder=row.holder,
            name=row.name,
            place=row.place,
            fencing=row.fencing,
            since=datetime.fromtimestamp(row.since, UTC),
            seconds_left=row.expires - row.now,
            expires=row.expires,
        )

    @staticmethod
    def _is_elsewhere(connection: sa.Connection, before: LeaseState, place: str) -> bool:
        """Return whether jobs may still run in the folder of another machine."""
        if not place or before.place in ("", place):
            return False
        states = sorted(state.value for state in ACTIVE)
        jobs = tables.jobs.c
        query = sa.select(jobs.seq).where(
            jobs.state.in_(states), jobs.executor == LocalExecutor.name
        )
        return connection.scalar(query.limit(1)) is not None
