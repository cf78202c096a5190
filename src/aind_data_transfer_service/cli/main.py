"""The command `aind-data-transfer-service`: serve, config, demo, template, upload, verify,
metadata, clean.

Each sub-command parses what is its own and hands over; what it needs is imported only then.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aind_data_transfer_service import __version__
from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.utf8_mode import ensure_utf8

_WITH_FILE = ("verify", "metadata", "clean")
"""Commands that read the settings file as the service does. A job gets all from its environment."""
APP = "aind_data_transfer_service.server:app"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a sub-command; the answer is the process's exit code."""
    if argv is None:
        ensure_utf8()
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else ""
    if name in _WITH_FILE and (problems := _apply_settings_file()):
        print("\n".join(problems), file=sys.stderr)
        return ExitCode.REQUEST
    if name in _COMMANDS:
        return _COMMANDS[name].run(arguments[1:])
    _parser().parse_args(arguments or ["--help"])
    return 0


def _parser() -> argparse.ArgumentParser:
    summaries = "\n".join(f"  {name:<10}{known.summary}" for name, known in _COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="aind-data-transfer-service",
        usage="%(prog)s [-h] [--version] COMMAND …",
        description=f"From a spreadsheet to verified data in the bucket.\n\ncommands:\n{summaries}",
        epilog="Each command tells more with --help.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("command", choices=_COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def _serve(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="aind-data-transfer-service serve")
    parser.add_argument(
        "--host", default="127.0.0.1", help="interface (default: this machine only)"
    )
    parser.add_argument("--port", type=int, default=5000, help="port (default: %(default)s)")
    parser.add_argument("--settings", metavar="FILE", help="a settings file in TOML")
    options = parser.parse_args(arguments)
    if options.settings:
        os.environ["SETTINGS_FILE"] = options.settings
    from aind_data_transfer_service.server import startup

    problems = startup.check_settings().problems
    problems += startup.unusable_port(options.host, options.port)
    if problems:
        print(startup.refusal(problems), file=sys.stderr)
        return 1
    import uvicorn

    uvicorn.run(APP, host=options.host, port=options.port)
    return 0


def _config(arguments: Sequence[str]) -> int:
    from aind_data_transfer_service.cli.config import main as config

    return config(arguments)


def _demo(arguments: Sequence[str]) -> int:
    from aind_data_transfer_service.demo.tour import main as demo

    return demo(arguments)


def _template(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="aind-data-transfer-service template")
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=Path("job_upload_template.xlsx"),
        help="where it goes (default: %(default)s)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite a file that is there")
    options = parser.parse_args(arguments)
    from aind_data_transfer_service.spreadsheets.template import job_upload_template

    data = job_upload_template()
    try:
        with options.file.open("wb" if options.force else "xb") as file:
            file.write(data)
    except FileExistsError:
        parser.error(f"{options.file} is there already; --force overwrites it")
    except OSError as error:
        parser.error(f"{options.file} cannot be written: {error.strerror}")
    print(f"wrote {options.file}")
    return 0


def _upload(arguments: Sequence[str]) -> int:
    from aind_data_transfer_service.upload.cli.upload import main as upload

    return upload(arguments)


def _verify(arguments: Sequence[str]) -> int:
    from aind_data_transfer_service.upload.cli.verify import main as verify

    return verify(arguments)


def _clean(arguments: Sequence[str]) -> int:
    from aind_data_transfer_service.upload.cli.clean import main as clean

    return clean(arguments)


def _metadata(arguments: Sequence[str]) -> int:
    from aind_data_transfer_service.cli.metadata import main as metadata

    return metadata(arguments)


def _apply_settings_file() -> list[str]:
    """Read the settings file, if there is one, and return what is wrong with it."""
    from aind_data_transfer_service.settings.toml_file import apply_settings_file

    file = apply_settings_file(os.environ)
    return file.problems if file else []


@dataclass(frozen=True)
class _Command:
    summary: str
    run: Callable[[Sequence[str]], int]


_COMMANDS = {
    "serve": _Command("start the web service", _serve),
    "config": _Command("show the settings in effect, and what is wrong with them", _config),
    "demo": _Command("send a sample session through a service of its own", _demo),
    "template": _Command("write the Job Submit Template", _template),
    "upload": _Command("run one data transfer job here and now", _upload),
    "verify": _Command("prove again that an asset is what was sent", _verify),
    "metadata": _Command("show what each source of metadata says", _metadata),
    "clean": _Command("remove what dead jobs left behind", _clean),
}
