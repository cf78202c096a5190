"""The command line: thin, and clear about what it does not know."""

import contextlib
import io
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from aind_data_transfer_service import __version__
from aind_data_transfer_service.cli import main
from tests.support import free_port


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command; give its exit code and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main.main(arguments)
        except SystemExit as ended:
            code = ended.code
    return code, out.getvalue(), err.getvalue()


class CommandLine(unittest.TestCase):
    """Sub-commands."""

    def setUp(self) -> None:
        """Stand in an empty folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)

    def test_help_names_every_command(self) -> None:
        for arguments in ((), ("--help",)):
            code, out, _ = run(*arguments)
            self.assertEqual(0, code)
            for name in (
                "serve",
                "config",
                "demo",
                "template",
                "upload",
                "verify",
                "metadata",
                "clean",
            ):
                self.assertRegex(out, rf"(?m)^  {name} ")

    def test_the_version_is_the_packages(self) -> None:
        self.assertIn(__version__, run("--version")[1])

    def test_an_unknown_command_is_refused_with_the_known_ones(self) -> None:
        code, _, err = run("sevre")
        self.assertEqual(2, code)
        self.assertRegex(err, "invalid choice: 'sevre'.*serve")

    def test_arguments_are_those_of_the_shell_where_none_are_given(self) -> None:
        with mock.patch("sys.argv", ["aind-data-transfer-service", "--version"]):
            with self.assertRaises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
                main.main()
        self.assertIn(__version__, out.getvalue())

    def test_the_template_is_written_and_never_overwritten_unasked(self) -> None:
        self.assertEqual(0, run("template")[0])
        self.assertTrue(Path("job_upload_template.xlsx").read_bytes().startswith(b"PK"))
        code, _, err = run("template")
        self.assertEqual(2, code)
        self.assertIn("--force", err)
        self.assertEqual(0, run("template", "--force")[0])

    def test_a_template_that_cannot_be_written_is_an_error_in_words(self) -> None:
        code, _, err = run("template", "nowhere/template.xlsx")
        self.assertEqual(2, code)
        self.assertIn("nowhere/template.xlsx cannot be written: No such file", err)

    def test_serve_hands_over_to_uvicorn(self) -> None:
        port = free_port()
        with mock.patch("uvicorn.run") as uvicorn_run:
            self.assertEqual(0, run("serve", "--host", "0.0.0.0", "--port", str(port))[0])
        uvicorn_run.assert_called_once_with(main.APP, host="0.0.0.0", port=port)

    def test_the_demo_explains_itself(self) -> None:
        self.assertIn("--exit", run("demo", "--help")[1])

    def test_an_upload_without_a_readable_request_fails_with_its_code(self) -> None:
        self.assertEqual(2, run("upload", "--json-args", "{")[0])
