"""The connection to the database: its address, its manner of locking, its migrations."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from aind_data_transfer_service.errors import TransferServiceError

BUSY_SECONDS = 30.0
"""How long a writer waits for another one to finish."""
_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x41494E44  # any number, as long as all of us take the same


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
    except sa.exc.ArgumentError:
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
            self.engine = sa.create_engine(self.url, pool_pre_ping=True, hide_parameters=True)
        self._writer = self.engine.execution_options(write=True)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a transaction that only reads."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that writes; it is undone when the block raises."""
        with self._writer.begin() as connection:
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this release's form; safe where several processes do so at once."""
        if self.is_sqlite:
            self._use_write_ahead_log()
        with self.writing() as connection:
            if not self.is_sqlite:
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


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    """Make an engine for a file, in a folder that need not exist yet."""
    Path(url.database or "").expanduser().parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS}, hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection, _record):
        connection.isolation_level = None  # transactions begin where we say so
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA mmap_size=1073741824")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection):
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
