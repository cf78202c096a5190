"""Releases of aind-data-schema, each in a virtual environment with a pydantic of its day.

Made once, by pip, and kept: in SCHEMA_TEST_ROOT, else in the user's cache. The command

    python -m tests.support.schema_releases

makes them, and with `write` behind it writes the schemas that the product ships.
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aind_data_transfer_service.metadata import schemas
from aind_data_transfer_service.metadata.schemas import RELEASES, file_name
from aind_data_transfer_service.settings.schema_generation import Generation
from tests.support import missing

PACKAGES = {
    Generation.V0: ("pydantic==2.7.4",),
    Generation.V1: ("pydantic==2.11.10", "aind-data-schema-models==0.8.0"),
    Generation.V2: ("pydantic==2.11.10", "aind-data-schema-models==6.3.1"),
}
"""What is installed for a generation beside its release of aind-data-schema."""
_PROGRAM = Path(__file__).with_name("schema_program.py")
_LAST_SIGN = "complete"


def provide(generation: Generation) -> Path:
    """Return the Python of a generation's environment, made if it is not there yet.

    Raises
    ------
    unittest.SkipTest
        If it cannot be made; under CI that is a failure.
    """
    packages = (f"aind-data-schema=={RELEASES[generation]}", *PACKAGES[generation])
    version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    folder = _root() / "-".join([*packages, version]).replace("==", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f"{folder.name}.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process makes it, the others wait
        if not (folder / _LAST_SIGN).exists():
            _make(folder, packages)
    return folder / "bin" / "python"


@dataclass(frozen=True)
class Answer:
    """What a release says."""

    files: dict[str, str]
    """What the product ships of it, by the names of the files."""
    problems: list[list[str]]
    """What its models say against each document that was given."""


def ask(generation: Generation, documents: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> Answer:
    """Ask the release of a generation for its schemas, and to validate documents.

    Parameters
    ----------
    generation : Generation
        The generation.
    documents : Sequence
        What is validated, each a kind of document and its content.
    """
    given = [{"kind": kind, "content": content} for kind, content in documents]
    done = subprocess.run(
        [str(provide(generation)), "-I", "-W", "ignore", str(_PROGRAM)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"aind-data-schema {RELEASES[generation]}: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout)
    contents = {**answer["schemas"], "terms": answer["terms"], "structures": answer["structures"]}
    files = {file_name(generation, kind): _written(one) for kind, one in contents.items() if one}
    return Answer(files, answer["problems"])


def _written(content: Any) -> str:
    """Write a file that the product ships."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"


def _root() -> Path:
    """Return where the environments are kept."""
    named = os.environ.get("SCHEMA_TEST_ROOT")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else cache / "aind-data-transfer-service" / "schemas"


def _make(folder: Path, packages: Sequence[str]) -> None:
    """Make an environment; pip is that of the environment that runs the tests."""
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(folder / "bin" / "python"),
        "install",
        "-qq",
    ]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", *packages], capture_output=True, text=True
    )
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise missing(f"{' '.join(packages)} (pip says: {' '.join(done.stderr.split())[-300:]})")
    (folder / _LAST_SIGN).touch()


def main() -> None:
    """Make all environments, and write the schemas if asked to."""
    place = Path(schemas.__file__).parent
    for generation in RELEASES:
        provide(generation)
        if sys.argv[1:] != ["write"]:
            continue
        for name, text in ask(generation).files.items():
            (place / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
