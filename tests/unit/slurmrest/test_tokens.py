"""Tokens: as they are, from a file, from a command."""

import asyncio
import shlex
import sys
import unittest
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from aind_data_transfer_service.slurmrest import tokens
from aind_data_transfer_service.slurmrest.errors import TokenUnavailable
from aind_data_transfer_service.slurmrest.tokens import CommandToken, FileToken, FixedToken
from tests.unit.slurmrest.builders import a_jwt

NOW = datetime(2024, 2, 19, 11, 25, 17, tzinfo=UTC)


def ending_in(seconds: float, **claims) -> str:
    """Build a token that ends so many seconds from NOW."""
    return a_jwt(exp=(NOW + timedelta(seconds=seconds)).timestamp(), **claims)


def python(code: str) -> str:
    """Write a command that runs some Python."""
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)}"


class _InFolder(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.path = self.folder / "token"
        self.now = NOW

    def file(self) -> FileToken:
        """Make a source that reads the file."""
        return FileToken(self.path, lambda: self.now)

    async def unavailable(self, source) -> str:
        """Ask in vain, and give the reason."""
        with self.assertRaises(TokenUnavailable) as caught:
            await source.current()
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)


class Fixed(_InFolder):
    """As it is."""

    async def test_it_is_given_bare(self) -> None:
        token = a_jwt()
        for text in (token, f"SLURM_JWT={token}\n", f' "{token}" '):
            source = FixedToken(text)
            self.assertEqual(token, await source.current())
            self.assertEqual(token, await source.renew(token))
            self.assertEqual(2100, source.expires_at.year)
        self.assertFalse(source.renewable)
        self.assertNotIn(token, repr(source))

    async def test_what_is_no_token_is_refused_without_showing_it(self) -> None:
        self.assertIn("HPC_TOKEN holds no token", await self.unavailable(FixedToken("  ")))
        said = await self.unavailable(FixedToken("se cret"))
        self.assertIn("blanks", said)
        self.assertNotIn("cret", said)

    async def test_its_end_is_read_where_it_says_so(self) -> None:
        self.assertEqual(NOW, tokens.expiry(ending_in(0)))
        for odd in (
            "some_token",
            "a.b.c",
            "a.e30.c",
            a_jwt(exp="x"),
            a_jwt(exp=1e300),
            a_jwt(exp=True),
        ):
            self.assertIsNone(tokens.expiry(odd))
        self.assertFalse(tokens.is_jwt("some_token"))
        self.assertTrue(tokens.is_jwt(a_jwt()))

    async def test_what_is_set_decides_the_source(self) -> None:
        self.assertIsInstance(tokens.token_source("t"), FixedToken)
        self.assertIsInstance(tokens.token_source("t", self.path), FileToken)
        self.assertIsInstance(tokens.token_source("t", self.path, "c"), CommandToken)


class File(_InFolder):
    """In a file that somebody keeps fresh."""

    async def test_a_file_is_read_again_when_it_changed(self) -> None:
        source = self.file()
        self.assertIsNone(source.expires_at)
        self.path.write_text(f"SLURM_JWT={ending_in(600)}\n")
        self.assertEqual(ending_in(600), await source.current())
        self.assertEqual(NOW + timedelta(seconds=600), source.expires_at)
        fresh = self.folder / "fresh"
        fresh.write_text(ending_in(900))
        fresh.replace(self.path)
        self.assertEqual(ending_in(900), await source.current())

    async def test_a_file_that_is_not_there_is_named(self) -> None:
        said = await self.unavailable(self.file())
        self.assertIn(f"HPC_TOKEN_FILE: {self.path} cannot be read (No such file", said)

    async def test_a_token_lasts_while_its_file_is_away(self) -> None:
        self.path.write_text(ending_in(30))
        source = self.file()
        token = await source.current()
        self.assertEqual(token, await source.renew("token-c9d1"))


class Command(_InFolder):
    """Printed by a command."""

    def counting(self, token: str) -> CommandToken:
        """Make a source whose command counts its calls."""
        code = f"open({str(self.folder / 'calls')!r}, 'a').write('x'); print('SLURM_JWT={token}')"
        return CommandToken(python(code), lambda: self.now)

    @property
    def calls(self) -> int:
        """How often the command was run."""
        return len((self.folder / "calls").read_text())

    async def test_it_is_run_once_and_again_shortly_before_the_end(self) -> None:
        source = self.counting(ending_in(600))
        for _ in range(3):
            self.assertEqual(ending_in(600), await source.current())
        self.assertEqual(1, self.calls)
        self.now = NOW + timedelta(seconds=545)
        await source.current()
        self.assertEqual(2, self.calls)

    async def test_many_tasks_that_are_rejected_run_it_once(self) -> None:
        source = CommandToken(python("import uuid; print(uuid.uuid4().hex)"))
        rejected = await source.current()
        fresh = await asyncio.gather(*(source.renew(rejected) for _ in range(10)))
        self.assertEqual(1, len(set(fresh)))
        self.assertNotEqual(rejected, fresh[0])

    async def test_a_failure_shortly_before_the_end_does_no_harm_until_then(self) -> None:
        marker = self.folder / "broken"
        code = (
            f"import os; print({ending_in(600)!r}) if not os.path.exists({str(marker)!r}) else 1/0"
        )
        source = CommandToken(python(code), lambda: self.now)
        token = await source.current()
        marker.touch()
        self.now = NOW + timedelta(seconds=590)
        self.assertEqual(token, await source.current())
        self.now = NOW + timedelta(seconds=601)
        self.assertIn("ZeroDivisionError", await self.unavailable(source))

    async def test_what_goes_wrong_is_said(self) -> None:
        cases = (
            ("/no/such/program", "cannot be started: /no/such/program"),
            (python("import sys; sys.exit('no\\nluck')"), "exit code 1: no luck"),
            (python("import sys; sys.exit(4)"), "exit code 4"),
            (python("pass"), "HPC_TOKEN_COMMAND holds no token"),
            (python("print('two words')"), "blanks"),
        )
        for command, words in cases:
            self.assertIn(words, await self.unavailable(CommandToken(command)))
        with self.assertRaisesRegex(TokenUnavailable, "cannot be read: No closing quotation"):
            CommandToken("it's")

    async def test_no_shell_is_used(self) -> None:
        source = CommandToken(python("import sys; print(len(sys.argv[1]))") + " '$(id)'")
        self.assertEqual("5", await source.current())

    async def test_a_command_that_does_not_end_is_ended(self) -> None:
        source = CommandToken(python("import time; time.sleep(60)"), timeout=0.3)
        self.assertIn("did not end within 0.3 s", await self.unavailable(source))


if __name__ == "__main__":
    unittest.main()
