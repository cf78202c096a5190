"""LabTracks, the colony's database, on a Microsoft SQL Server.

It is read and never written: one SELECT a question, outside of any transaction, over a connection
that says it is for reading only. Every question has a connection of its own, so that threads are
independent of each other and nothing stays open at a server that others work with.
"""

import re
import time
from collections.abc import Callable, Sequence
from functools import partial

from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from aind_data_transfer_service.concurrency.daemon_thread import beside
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found, SourceBase
from aind_data_transfer_service.metadata.sources.labtracks.errors import Failure, too_late
from aind_data_transfer_service.metadata.sources.labtracks.procedures import read_tasks
from aind_data_transfer_service.metadata.sources.labtracks.rows import Row, read_subject
from aind_data_transfer_service.metadata.validation import Status, status_of
from aind_data_transfer_service.settings.metadata_sources import LabtracksSettings

QUERY = """
SELECT
    animal.ID AS id,
    animal.SEX AS sex,
    animal.BIRTH_DATE AS birth_date,
    animal.CLASS_VALUES AS class_values,
    animal.CAGE_ID AS cage_id,
    animal.ROOM_ID AS room_id,
    species.SPECIES_NAME AS species_name,
    home.GROUP_DESCRIPTION AS group_description,
    breeding.GROUP_DESCRIPTION AS breeding_description,
    dam.ID AS maternal_id,
    dam.CLASS_VALUES AS maternal_class_values,
    sire.ID AS paternal_id,
    sire.CLASS_VALUES AS paternal_class_values,
    breeding.GROUP_NAME AS breeding_group
FROM ANIMALS_COMMON AS animal
LEFT JOIN SPECIES AS species ON species.ID = animal.SPECIES_ID
LEFT JOIN GROUPS AS home ON home.ID = animal.GROUP_ID
LEFT JOIN ANIMALS_COMMON AS dam ON dam.ID = animal.MATERNAL_INDEX
LEFT JOIN ANIMALS_COMMON AS sire ON sire.ID = animal.PATERNAL_INDEX
LEFT JOIN GROUPS AS breeding ON breeding.ID = dam.GROUP_ID
WHERE animal.ID = :subject_id
"""
"""What is asked for a subject. The dam's group is where the animal was bred."""
TASKS_QUERY = """
SELECT
    task.ID AS id,
    kind.TYPE_NAME AS type_name,
    task.DATE_START AS date_start,
    task.DATE_END AS date_end,
    task.INVESTIGATOR_ID AS investigator_id,
    task.TASK_DESCRIPTION AS description,
    task.TASK_STATUS AS task_status,
    protocol.PROTOCOL_NUMBER AS protocol_number,
    protocol.PROTOCOL_TITLE AS protocol_title
FROM TASK_SET_OBJECT AS object
JOIN TASK_SET AS task ON task.ID = object.TASK_ID
JOIN TASK_TYPE AS kind ON kind.ID = task.TASK_TYPE_ID
LEFT JOIN ACUC_PROTOCOL AS protocol ON protocol.LINK_INDEX = task.ACUC_LINK_ID
WHERE object.TASK_OBJECT = :subject_id
ORDER BY task.DATE_START, task.ID
"""
"""What is asked for procedures."""

_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
"""What an id can be: ANIMALS_COMMON.ID is a decimal without places after the point."""
_MOST_ROWS, _MOST_TASKS = 10, 1000
_RETRY_SECONDS = 0.5
_APPLICATION = "aind-data-transfer-service"
_TDS_VERSION = "7.4"
"""Named, for else FreeTDS tries one version after the other, each for the whole time-out."""


class LabtracksSource(SourceBase):
    """Asks LabTracks who a subject is, and what was done to it in the colony.

    Parameters
    ----------
    settings : LabtracksSettings
        Where it is, and who asks; set.
    timeout : float
        Seconds that a question may take in all.
    attempts : int
        How often a question is asked in all whose connection is lost. Nothing else is tried twice.
    sleep : Callable
        How to wait between two attempts.
    """

    name = "labtracks"
    kinds = frozenset({"subject", "procedures"})

    def __init__(
        self,
        settings: LabtracksSettings,
        timeout: float = 10.0,
        attempts: int = 3,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._settings = settings
        self._timeout = timeout
        self._waits = [_RETRY_SECONDS * 2**retry for retry in range(attempts - 1)]
        self._sleep = sleep
        self._place = f"LabTracks ({settings.server}:{settings.port})"
        seconds = max(1, int(timeout))  # the driver counts whole ones, between two bytes
        self._engine = create_engine(
            _url(settings),
            poolclass=NullPool,
            hide_parameters=True,
            connect_args={
                "login_timeout": seconds,
                "timeout": seconds,
                "autocommit": True,  # nothing is written, so nothing is held
                "read_only": True,  # ApplicationIntent=ReadOnly
                "appname": _APPLICATION,
                "tds_version": _TDS_VERSION,
            },
        )

    def subject(self, subject_id: str) -> Found | None:
        """Ask for `subject.json` of a subject; what is no number is not known there."""
        if not _NUMBER.fullmatch(subject_id):
            return None
        rows = self._in_time(QUERY, int(subject_id), _MOST_ROWS)
        if not rows:
            return None
        reading = read_subject(rows)
        return Found(
            reading.document,
            status_of("subject", reading.document) == Status.VALID,
            f"{self._place}, {self._settings.database}, ANIMALS_COMMON {subject_id}",
            reading.complete,
            tuple(reading.notes),
            is_draft=True,
        )

    def procedures(self, subject_id: str) -> Found | None:
        """Ask for the perfusions and retro-orbital injections among the tasks of a subject."""
        if not _NUMBER.fullmatch(subject_id):
            return None
        rows = self._in_time(TASKS_QUERY, int(subject_id), _MOST_TASKS)
        return read_tasks(subject_id, rows, f"{self._place}, {self._settings.database}, TASK_SET")

    def close(self) -> None:
        """Let go of connections."""
        self._engine.dispose()

    def _in_time(self, query: str, number: int, most: int) -> Sequence[Row]:
        """Ask in a thread of its own, and leave it alone where it takes too long.

        The driver's time-outs end with the next byte, and count anew for each of the questions
        that SQLAlchemy has for a server that it has just met.
        """
        answer = beside(partial(self._ask, query, number, most), "labtracks")
        try:
            return answer.result(self._timeout)
        except TimeoutError as error:
            raise MetadataError(f"{self._place} {too_late(self._timeout)}") from error

    def _ask(self, query: str, number: int, most: int) -> Sequence[Row]:
        """Get all rows of an animal, asking again where the connection was lost on the way."""
        waits = iter(self._waits)
        while True:
            try:
                with self._engine.connect() as connection:
                    result = connection.execute(text(query), {"subject_id": number})
                    return [row._asdict() for row in result.fetchmany(most)]
            except (SQLAlchemyError, ValueError, TypeError) as error:  # both stumble over oddities
                failure = Failure(error)
                wait = next(waits, None) if failure.connection_lost else None
                if wait is None:
                    words = failure.in_words(self._settings, self._timeout)
                    raise MetadataError(f"{self._place} {words}") from error
            self._sleep(wait)


def _url(settings: LabtracksSettings) -> URL:
    """Write the address that SQLAlchemy wants."""
    password = settings.password.get_secret_value() if settings.password else None
    return URL.create(
        "mssql+pymssql",
        settings.user,
        password,
        settings.server,
        settings.port,
        settings.database,
    )
