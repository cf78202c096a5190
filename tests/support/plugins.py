"""The plug-ins of the page *Extending*, and packages that only have entry points."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

PAGE = Path(__file__).parents[2] / "doc_template" / "source" / "extending.rst"
_BLOCK = re.compile(
    r"^\.\. code-block:: \w+\n   :caption: (\S+)\n\n((?:   .*\n|\n)+)", re.MULTILINE
)


def page_packages(folder: Path) -> list[Path]:
    """Write the packages that the page shows, and return their folders."""
    folders = set()
    for name, code in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(code), encoding="utf-8")
        folders.add(path.parent)
    return sorted(folders)


def install(packages: list[Path], target: Path) -> None:
    """Install packages with pip into a folder, for `PYTHONPATH`."""
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run(
        [*command, *options, "--target", str(target), *map(str, packages)],
        check=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )


def registered(folder: Path, package: str, group: str, **entries: str) -> None:
    """Write into a folder what an installed package has to say of its entry points.

    Parameters
    ----------
    folder : Path
        For `PYTHONPATH`.
    package : str
        The package's name.
    group : str
        The last part of the name of the group.
    **entries : str
        What each entry point leads to, by its name, `-` written as `_`.
    """
    lines = [f"[aind_data_transfer_service.{group}]"]
    lines += [f"{name.replace('_', '-')} = {value}" for name, value in entries.items()]
    information = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8"
    )
    (information / "entry_points.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
