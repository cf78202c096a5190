"""The connection to the database: its address, its manner of locking, its migrations."""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.jobs.private_files import make_private_file

T = TypeVar("T")

BUSY_SECONDS = 8.0
"""Seconds that a writer waits for another one to finish, on SQLite and on PostgreSQL."""
_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 9
"""Seconds that PostgreSQL works on one statement at most."""
_IDLE_SECONDS = 60
"""Seconds until PostgreSQL ends a transaction of a client that hangs."""
_UNACKNOWLEDGED_SECONDS = 15
"""Seconds until a connection to a machine that does not answer is given up."""
_MOST_CONNECTIONS = 20
_CHUNK = 500
"""Values in one statement."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x41494E44  # any number, as long as all of us take the same


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Cut values into lists that one statement can take, such as in `IN`."""
    listed = list(items)
    for start in range(0, len(listed), _CHUNK):
        yield listed[start : start + _CHUNK]


def resolve_url(url: str) -> sa.URL:
    """Read a database's address; PostgreSQL is always spoken to by psycopg 3.

    Raises
    ------
    TransferServiceError
        Where the address is for neither SQLite nor PostgreSQL. The message does not repeat the
        address, which may hold a password.
    """
    try:
        resolved = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise TransferServiceError(
            "DATABASE_URL cannot be read; write postgresql://user:password@host/database "
            "or sqlite:////absolute/path.sqlite3"
        ) from None
    if resolved.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return resolved.set(drivername="postgresql+psycopg")
    if resolved.drivername in ("sqlite", "sqlite+pysqlite") and resolved.database:
        return resolved
    raise TransferServiceError(
        f'DATABASE_URL begins with "{resolved.drivername}"; '
        "it has to name a PostgreSQL database or an SQLite file"
    )


class Database:
    """An engine whose transactions lock as they should.

    Reading takes no lock. Writing takes SQLite's only write lock at its start (`BEGIN IMMEDIATE`),
    so that two writers wait for one another rather than fail; on PostgreSQL the rows to be changed
    are locked.

    Parameters
    ----------
    url : str
        An address as SQLAlchemy takes it.
    """

    def __init__(self, url: str):
        self.url = resolve_url(url)
        self.is_sqlite = self.url.drivername.startswith("sqlite")
        if self.is_sqlite:
            self.engine = _sqlite_engine(self.url)
        else:
            self.engine = _postgresql_engine(self.url)
        self._writer = self.engine.execution_options(write=True)
        self._fence: Callable[[sa.Connection], None] | None = None

    def fenced(self, fence: Callable[[sa.Connection], None]) -> Self:
        """Return the same database with a check at the start of each transaction that writes.

        Parameters
        ----------
        fence : Callable
            Raises an error if the transaction must not be made. What it locks stays locked until
            the end of the transaction.
        """
        fenced = copy.copy(self)
        fenced._fence = fence
        return fenced

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes; it is undone when the block raises."""
        with self._writer.begin() as connection:
            if self._fence is not None:
                self._fence(connection)
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this release's form; safe where several processes do so at once."""
        if self.is_sqlite:
            self._use_write_ahead_log()
        with self.writing() as connection:
            if not self.is_sqlite:
                for name in ("statement_timeout", "lock_timeout"):  # an index may take minutes
                    connection.exec_driver_sql(f"SET LOCAL {name} = 0")
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.set_main_option("path_separator", "os")
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise TransferServiceError(
                    f"the database is not of this release, perhaps of a later one ({error}); "
                    "use the release that wrote it, or name another DATABASE_URL"
                ) from error

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _use_write_ahead_log(self) -> None:
        """Switch the file over, once; SQLite does not wait for its lock here, so we do."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                with self.engine.connect() as connection:
                    connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
                return
            except Exception as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    """Make an engine for a server; what the address says of time-outs wins."""
    wanted: dict[str, int] = {
        "connect_timeout": _CONNECT_SECONDS,
        "keepalives_idle": _UNACKNOWLEDGED_SECONDS,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": _UNACKNOWLEDGED_SECONDS * 1000,
    }
    engine = sa.create_engine(
        url,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=_MOST_CONNECTIONS - 5,
        pool_timeout=_CONNECT_SECONDS,
        hide_parameters=True,
        connect_args={name: value for name, value in wanted.items() if name not in url.query},
    )
    limits = {
        "statement_timeout": _STATEMENT_SECONDS,
        "lock_timeout": BUSY_SECONDS,
        "idle_in_transaction_session_timeout": _IDLE_SECONDS,
    }
    options = str(url.query.get("options", ""))

    @sa.event.listens_for(engine, "connect")
    def _limit(connection: Any, _record: object) -> None:
        for name, seconds in limits.items():
            if name not in options:
                connection.execute(f"SET {name} = {int(seconds * 1000)}")
        connection.commit()

    return engine


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    """Make an engine for a file, in a folder that need not exist yet."""
    if "uri" not in url.query:
        make_private_file(Path(url.database or ""))
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say so
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA mmap_size=1073741824")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
