"""What pymssql says when LabTracks does not answer, in words for people.

A failure is known by its text first. Its number is not to be trusted: after a failed login, pymssql
repeats the number of the failure before it. Numbers below 20000 are SQL Server's; from there on
they are DB-Library's, whose texts begin with `DB-Lib error message`.
"""

from typing import Any

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from aind_data_transfer_service.redaction import on_a_line
from aind_data_transfer_service.settings.metadata_sources import LabtracksSettings

_WORDS = {
    "time-out": "did not answer within {seconds:g} s; try again later",
    "unreachable": "cannot be reached; check LABTRACKS_SERVER and LABTRACKS_PORT, and that this "
    "machine may connect there",
    "login": 'refuses the login of {user} to "{database}"{reason}; check LABTRACKS_USER, '
    "LABTRACKS_PASSWORD and LABTRACKS_DATABASE",
    "database": 'does not let {user} open a database "{database}"{reason}; check '
    "LABTRACKS_DATABASE, and the rights of that login",
    "tables": 'has not got the tables of LabTracks in "{database}"{reason}; check '
    "LABTRACKS_DATABASE",
    "rights": "does not let {user} read{reason}; it needs SELECT on ANIMALS_COMMON, SPECIES and "
    "GROUPS, and for procedures on TASK_SET, TASK_SET_OBJECT, TASK_TYPE and ACUC_PROTOCOL (or "
    "leave labtracks out of METADATA_SOURCES.procedures)",
    "unreadable": "answered something that cannot be read{reason}; check that LABTRACKS_PORT is "
    "SQL Server's, and the animal's record in LabTracks",
    "lost": "ended the connection without a whole answer, time and again; check that "
    "LABTRACKS_PORT is SQL Server's, and try again later",
    "other": "answered with an error{reason}; show it to whoever looks after the database",
}
_BY_SERVERS_NUMBER = {
    207: "tables",  # no such column
    208: "tables",  # no such table
    229: "rights",  # SELECT was denied on a table
    230: "rights",  # SELECT was denied on a column
    916: "database",  # the login may not use the database
}
_TIMED_OUT, _NO_CONNECTION, _NO_LOGIN, _BAD_TOKEN = "20003", "20009", "20002", "20020"
_CONNECTION_LOST = ("20004", "20006", "20017", "20047")
"""Reading failed, writing failed, unexpected end, the connection is dead."""
_NAME_LEADS_NOWHERE = (
    "Unknown error",
    "Connection to the database failed for an unknown reason.",
)


def too_late(seconds: float) -> str:
    """Say that there was no answer in time, going on from the name of the server."""
    return _WORDS["time-out"].format(seconds=seconds)


class Failure:
    """A question that failed, in the driver or at the server."""

    def __init__(self, error: Exception):
        number, self._text = _arguments(error)
        self._of_the_database = isinstance(error, SQLAlchemyError)
        self._trouble = self._of_the_driver() or _BY_SERVERS_NUMBER.get(number, "other")

    @property
    def connection_lost(self) -> bool:
        """Whether the connection was lost, so that it is worth while to ask again."""
        return self._trouble == "lost"

    def in_words(self, settings: LabtracksSettings, seconds: float) -> str:
        """Say what is wrong and what to do about it, going on from the name of the server."""
        said = on_a_line(self._text.partition("DB-Lib error message")[0], 300)
        return _WORDS[self._trouble].format(
            user=settings.user,
            database=settings.database,
            seconds=seconds,
            reason=f" ({said})" if said else "",
        )

    def _of_the_driver(self) -> str:
        """Tell what the driver found, where it was not the server's answer to the question."""
        if self._has(_TIMED_OUT):
            return "time-out"
        if self._has(_NO_CONNECTION) or self._text in _NAME_LEADS_NOWHERE:
            return "unreachable"
        if self._has(_BAD_TOKEN) or not self._of_the_database:
            return "unreadable"
        if self._has(_NO_LOGIN) and "message 20018" in self._text:  # the server gave its reasons
            # A database that cannot be opened is 4060 of severity 11, and then 18456 of severity
            # 14 as for a wrong password; of which pymssql may keep the latter only.
            return "database" if "20018, severity 11" in self._text else "login"
        return "lost" if self._has(*_CONNECTION_LOST, _NO_LOGIN) else ""

    def _has(self, *numbers: str) -> bool:
        """Whether DB-Library gave one of these numbers."""
        return any(f"error message {number}," in self._text for number in numbers)


def _arguments(error: Exception) -> tuple[int, str]:
    """Take the number and the text out of an error of pymssql, which nests them at times."""
    found: Any = error.orig.args if isinstance(error, DBAPIError) and error.orig else (str(error),)
    while len(found) == 1 and isinstance(found[0], tuple):
        found = found[0]
    number = found[0] if isinstance(found[0], int) else 0
    said = found[-1]
    return number, said.decode(errors="replace") if isinstance(said, bytes) else str(said)
