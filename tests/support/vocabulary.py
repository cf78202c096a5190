"""The file of platforms and modalities that the product ships, made from releases of the schema.

The command

    python -m tests.support.vocabulary write

installs the releases with pip, each in a temporary folder of its own, and writes the file. Without
`write` it prints what the file ought to hold.

A term of a later release is that of an earlier one if it has the same abbreviation or full name, or
if `RENAMED` says so. The earlier abbreviation stays, because it names folders of assets; the others
are synonyms.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from aind_data_transfer_service.configs.vocabulary_file import PATH

RELEASES = (
    "aind-data-schema==0.34.4",
    "aind-data-schema-models==0.8.0",
    "aind-data-schema-models==6.3.1",
)
"""In the order of the generations of the schema."""
RENAMED = {"slap2": "slap"}
"""Terms whose abbreviation and name were changed at once, by the later abbreviation."""
_PROGRAM = """
import importlib, json
def terms(module, name):
    for package in ("aind_data_schema_models", "aind_data_schema.models"):
        try:
            known = getattr(importlib.import_module(f"{package}.{module}"), name)
        except ModuleNotFoundError:
            continue
        every = getattr(known, "_ALL", None) or known.ALL
        found = [one() if isinstance(one, type) else one for one in every]
        return [(one.abbreviation.strip(), one.name.strip()) for one in found]
    return []
print(json.dumps({
    "platforms": terms("platforms", "Platform"), "modalities": terms("modalities", "Modality")
}))
"""


def merged(generations: Sequence[Sequence[Sequence[str]]]) -> list[dict[str, Any]]:
    """Merge the terms of several generations.

    Parameters
    ----------
    generations : Sequence
        The terms of each, a term as its abbreviation and its name.
    """
    entries: list[dict[str, Any]] = []
    for terms in generations:
        for abbreviation, name in terms:
            known_as = RENAMED.get(abbreviation, abbreviation)
            spellings = {known_as.casefold(), abbreviation.casefold(), name.casefold()}
            entry = next((one for one in entries if spellings & _spellings(one)), None)
            if entry is None:
                entries.append({"abbreviation": abbreviation, "name": name, "synonyms": []})
                continue
            known = (entry["abbreviation"], entry["name"], *entry["synonyms"])
            entry["synonyms"] += [one for one in (abbreviation, name) if one not in known]
    for entry in entries:
        if not entry["synonyms"]:
            del entry["synonyms"]
    return entries


def content() -> str:
    """Return what the file ought to hold."""
    found = [_terms_of(release) for release in RELEASES]
    kinds = {kind: merged([one[kind] for one in found]) for kind in ("platforms", "modalities")}
    return json.dumps({"releases": RELEASES, **kinds}, indent=1, ensure_ascii=False) + "\n"


def _spellings(entry: dict[str, Any]) -> set[str]:
    """Return all spellings of an entry."""
    return {one.casefold() for one in (entry["abbreviation"], entry["name"], *entry["synonyms"])}


def _terms_of(release: str) -> dict[str, list[list[str]]]:
    """Install a release, and list its terms."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
        subprocess.run([*pip, "--target", folder, release], check=True)
        code = f"import sys; sys.path.insert(0, {folder!r})\n{_PROGRAM}"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
        )
    found: dict[str, list[list[str]]] = json.loads(done.stdout)
    return found


def main() -> None:
    """Write the file, or print it."""
    text = content()
    if sys.argv[1:] == ["write"]:
        PATH.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
