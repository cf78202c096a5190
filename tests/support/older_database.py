"""A database as an earlier release left it."""

from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config

from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.store import engine
from aind_data_transfer_service.jobs.store.job_store import JobStore


def write_older_database(url: str, jobs: Sequence[Job], revision: str) -> None:
    """Record jobs, and give the tables the form that they had at a revision.

    Parameters
    ----------
    url : str
        The address of the database.
    jobs : Sequence[Job]
        The jobs.
    revision : str
        The revision of the schema, such as `0007`.
    """
    store = JobStore(url)
    store.add(jobs)
    store.close()
    database = engine.Database(url)
    with database.writing() as connection:
        config = Config()
        migrations = Path(engine.__file__).parent / "migrations"
        config.set_main_option("script_location", str(migrations).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    database.close()
