"""A Microsoft SQL Server for tests: its wire protocol on loopback, its tables in SQLite.

A real driver (pymssql, with FreeTDS) is at the other end. What it can do: PRELOGIN, LOGIN7,
SQLBatch, RPC (`sp_executesql`), Attention; and to go wrong in the ways that a test asks for. The
numbers of sections are those of [MS-TDS], "Tabular Data Stream Protocol".
"""

import contextlib
import re
import socket
import socketserver
import sqlite3
import struct
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self

from tests.support import tds_requests as requests
from tests.support import tds_tokens as tokens
from tests.support import tds_wire
from tests.support.tds_requests import Login
from tests.support.tds_wire import Encryption, Wire

_VERSION = "Microsoft SQL Server 2019 (RTM) - 15.0.2000.5 (X64) on a test"
_TYPES = {
    "INT": tokens.Integer(4),
    "BIGINT": tokens.Integer(8),
    "BIT": tokens.Bit(),
    "NUMERIC": tokens.Numeric(),
    "NVARCHAR": tokens.Text(),
    "NTEXT": tokens.LongText(),
    "VARCHAR": tokens.AnsiText(),
    "XML": tokens.Xml(),
    "DATETIME": tokens.DateTime(),
    "DATETIME2": tokens.DateTime2(),
}
"""How a column is sent whose type in SQLite has this name."""
_KNOWN = (
    (r"select @@version", _VERSION),
    (r"SELECT schema_name\(\)", "dbo"),
    (r"SELECT CAST\('test max support' AS NVARCHAR\(max\)\)", "test max support"),
    (r"SELECT 1 FROM fn_listextendedproperty", None),
    (r"SELECT name FROM sys.system_views", "dm_exec_sessions"),
    (r"SELECT CASE transaction_isolation_level", "READ COMMITTED"),
)
"""What drivers ask of a server that they have just met, and the one value that they get."""
_CALLS_FOR_NOTHING = re.compile(r"\s*(SET|BEGIN|COMMIT|ROLLBACK|IF @@TRANCOUNT|USE)\b", re.I)


class Fault(Enum):
    """How a question of tables goes wrong."""

    SLOW = auto()
    """No answer comes until the client cancels or leaves."""
    DROP = auto()
    """The connection ends in the middle of a row."""
    HALF = auto()
    """The message ends in the middle of a row, as if that were all."""
    GARBAGE = auto()
    """Bytes come that are no tokens."""
    TRICKLE = auto()
    """The answer comes a byte at a time."""
    CLOSED = auto()
    """The connection ends before any answer."""


@dataclass(frozen=True)
class Refusal:
    """An ERROR token that a question of tables gets for an answer."""

    number: int
    severity: int
    text: str


class _Cell:
    """A value with the type that its column has in the table."""

    def __init__(self, type_: tokens.Type, raw: bytes):
        self.type, self.value = type_, raw.decode()


for _name, _type in _TYPES.items():
    sqlite3.register_converter(_name, lambda raw, type_=_type: _Cell(type_, raw))


class SqlServer:
    """A server with one database and one login.

    Attributes
    ----------
    faults : deque of Fault or Refusal
        What befalls the next questions of tables, one each.
    encryption : Encryption
        What it encrypts.
    silent : bool
        Take connections, and never say a word.
    says_hello : bytes
        What to say, and nothing else, as a server of another protocol does.
    statements : list of str
        What was asked, as it came.
    logins : list of Login
    attentions : int
        How often a client cancelled.
    """

    def __init__(self, user: str, password: str, database: str):
        self._expected = (user, password, database)
        self.faults: deque[Fault | Refusal] = deque()
        self.encryption = Encryption.NONE
        self.silent = False
        self.says_hello = b""
        self.statements: list[str] = []
        self.logins: list[Login] = []
        self.attentions = 0
        self._lock = threading.Lock()
        self._tables = sqlite3.connect(
            ":memory:", check_same_thread=False, detect_types=sqlite3.PARSE_DECLTYPES
        )
        self._tables.isolation_level = None
        self._open: set[socket.socket] = set()
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            """Speaks with one client."""

            def handle(self) -> None:
                """Speak until the client has gone."""
                outer._open.add(self.request)
                try:
                    _Session(outer, self.request).run()
                except (ConnectionError, OSError, EOFError):
                    return  # the client left, or a fault ended the connection
                finally:
                    outer._open.discard(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # it may just have ended by itself
                connection.shutdown(socket.SHUT_RDWR)
        self._tables.close()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Change the tables from within."""
        with self._lock:
            self._tables.execute(sql, values)

    def refuses(self, login: Login) -> list[Refusal]:
        """Decide on a login, in the words of SQL Server; no refusal lets it in."""
        user, password, database = self._expected
        self.logins.append(login)
        refused = Refusal(18456, 14, f"Login failed for user '{login.user}'.")
        if (login.user, login.password) != (user, password):
            return [refused]
        if login.database != database:
            text = f'Cannot open database "{login.database}" requested by the login. '
            return [Refusal(4060, 11, f"{text}The login failed."), refused]
        return []

    def answer(self, sql: str, values: dict[str, Any]) -> bytes:
        """Answer one statement with tokens, all but the last DONE."""
        self.statements.append(sql)
        for pattern, value in _KNOWN:
            if re.match(rf"\s*{pattern}", sql, re.IGNORECASE):
                return _result([""], [] if value is None else [(value,)])
        if _CALLS_FOR_NOTHING.match(sql):
            return b""
        with self._lock:
            cursor = self._tables.execute(_for_sqlite(sql), values)
            found = cursor.fetchall()
        return _result([column[0] for column in cursor.description or ()], found)


class _Session:
    """One connection of one client."""

    def __init__(self, server: SqlServer, connection: socket.socket):
        self._server = server
        self._wire = Wire(connection)

    def run(self) -> None:
        """Let the client in, then answer it until it leaves."""
        if self._server.silent or self._server.says_hello:
            self._wire.leave(self._server.says_hello)
            return
        for kind, body in self._wire.messages():
            if kind == tds_wire.PRELOGIN:
                self._prelogin(requests.encryption(body))
            elif kind == tds_wire.LOGIN7:
                if not self._log_in(body):
                    return
            elif kind == tds_wire.ATTENTION:
                self._cancelled()
            elif kind == tds_wire.BATCH:
                sql = body[requests.headers_length(body) :].decode("utf-16-le")
                self._answer(sql, {}, tokens.done(tokens.DONE_FINAL))
            elif kind == tds_wire.RPC:
                sql, values = requests.procedure_call(body[requests.headers_length(body) :])
                self._answer(sql, values, tokens.procedure_end())

    def _prelogin(self, wanted: int) -> None:
        """Answer PRELOGIN (2.2.6.5), and begin to encrypt where both sides can."""
        ours = self._server.encryption
        version = bytes((15, 0, 0x07, 0xD0, 0, 0))
        options = struct.pack(">BHHBHHB", 0x00, 11, 6, 0x01, 17, 1, 0xFF)
        self._wire.send(options + version + bytes((ours,)))
        if ours != Encryption.NONE and wanted != Encryption.NONE:
            self._wire.start_tls()

    def _log_in(self, body: bytes) -> bool:
        """Answer LOGIN7 (2.2.6.4); False where the client may not come in."""
        login = requests.login(body, self._wire.encrypted)
        if self._server.encryption == Encryption.LOGIN_ONLY:
            self._wire.stop_tls()
        refusals = self._server.refuses(login)
        if refusals:
            errors = b"".join(_error(refusal) for refusal in refusals)
            self._wire.send(errors + tokens.done(tokens.DONE_ERROR))
            return False
        size = str(tds_wire.PACKET_SIZE)
        self._wire.send(
            tokens.environment_change(1, login.database, "master")
            + tokens.info(5701, f"Changed database context to '{login.database}'.")
            + tokens.collation_change()
            + tokens.login_acknowledgement(body[4:8][::-1])
            + tokens.environment_change(4, size, size)
            + tokens.done()
        )
        return True

    def _answer(self, sql: str, values: dict[str, Any], end: bytes) -> None:
        """Answer a statement, or go wrong in the way that is next."""
        fault = None
        if "ANIMALS" in sql.upper() and self._server.faults:
            fault = self._server.faults.popleft()
        if fault is Fault.SLOW:
            return  # the next message is the client's Attention, or its end
        if fault is Fault.CLOSED:
            raise EOFError
        if isinstance(fault, Refusal):
            self._wire.send(_error(fault) + tokens.done(tokens.DONE_ERROR))
            return
        try:
            answer = self._server.answer(sql, values)
        except sqlite3.Error as error:
            self._wire.send(_error(_in_words_of_sql_server(error)) + tokens.done(tokens.DONE_ERROR))
            return
        if fault is Fault.GARBAGE:
            self._wire.send(b"\x42" * 600)
        elif fault in (Fault.DROP, Fault.HALF):
            self._wire.send(answer[: len(answer) * 2 // 3], whole=fault is Fault.HALF)
            raise EOFError
        else:
            self._wire.trickles = fault is Fault.TRICKLE
            self._wire.send(answer + end)

    def _cancelled(self) -> None:
        """Acknowledge an Attention (2.2.1.7)."""
        self._server.attentions += 1
        self._wire.send(tokens.done(tokens.DONE_ATTENTION))


def _for_sqlite(sql: str) -> str:
    """Put what T-SQL writes in ways of its own as SQLite has it."""
    return re.sub(r"\bN'", "'", sql)


def _result(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Write a result: what the columns are, then the rows."""
    types = [_type_of([row[place] for row in rows]) for place in range(len(names))]
    plain = [[cell.value if isinstance(cell, _Cell) else cell for cell in row] for row in rows]
    body = tokens.column_metadata(list(zip(names, types, strict=True)))
    return body + b"".join(tokens.row(types, row) for row in plain)


def _type_of(cells: Sequence[Any]) -> tokens.Type:
    """Find out how a column is sent: as its table has it, or as its values are."""
    for cell in cells:
        if isinstance(cell, _Cell):
            return cell.type
        if isinstance(cell, int):
            return tokens.Integer(8)
    return tokens.Text()


def _error(refusal: Refusal) -> bytes:
    """Write a refusal as ERROR."""
    return tokens.error(refusal.number, refusal.severity, refusal.text)


def _in_words_of_sql_server(error: sqlite3.Error) -> Refusal:
    """Put what SQLite complains of as SQL Server does."""
    problem, _, name = str(error).partition(": ")
    if problem == "no such table":
        return Refusal(208, 16, f"Invalid object name '{name}'.")
    if problem == "no such column":
        return Refusal(207, 16, f"Invalid column name '{name}'.")
    return Refusal(102, 15, f"Incorrect syntax: {error}")
