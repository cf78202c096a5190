"""Single values of the demo's documents replaced, and whether aind-data-schema 0.34.4 accepts each.

The models themselves are asked in `tests/integration/test_schema_releases.py`.
"""

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

_NUMBERS = ("8.5", " 8.5 ", "+8.5", ".5", "8.5e-1", "8", 8.5, 8)
_NOT_NUMBERS = ("heavy", "NaN", "Infinity", "", "2024-02-19", "8,5", "0x10", True, [8])
_NEGATIVE = ("-5", -5, "-0.1")
_TIMES = (
    "2024-02-19T11:25:17",
    "2024-02-19 11:25:17-08:00",
    "2024-02-19T11:25:17+0000",
    "2024-02-19T11:25Z",
    "2024-02-19T11:25:17.123456Z",
    "2024-02-19t11:25:17z",
    "2024-02-19",
)
_NOT_TIMES = (
    "2024-13-45T99:99:99",
    "2024-02-30T11:25:17",
    "2023-02-29T11:25:17Z",
    "2024-02-19T24:00:00",
    "2024-02-19T11:25:60",
    "2024-02-19T11:25:17+24:00",
    "11:25:17",
    "soon",
    "",
    None,
)
_DATES = ("2024-02-29", "2024-02-19T00:00:00", "2024-02-19 00:00:00Z")
_NOT_DATES = ("2023-02-29", "2024-13-01", "2024-02-19T11:25:17", "19.02.2024", "", "soon")
_LIGHTS = {"lights_off_time": "18:00"}
_MAKER = {"name": "Other", "abbreviation": None, "registry": None, "registry_identifier": None}
_FILTER = {"name": "a", "device_type": "Filter", "filter_type": "Dichroic", "manufacturer": _MAKER}
_ANYTHING = ("", "https://example.org/session.py", "a file of the lab")

_CHANGES: tuple[tuple[str, str, tuple[Any, ...], tuple[Any, ...]], ...] = (
    ("session", "animal_weight_prior", (*_NUMBERS, *_NEGATIVE, None), _NOT_NUMBERS),
    (
        "session",
        "data_streams.0.ephys_modules.0.manipulator_coordinates.x",
        (*_NUMBERS, *_NEGATIVE),
        (*_NOT_NUMBERS, None),
    ),
    ("rig", "mouse_platform.radius", (*_NUMBERS, "0"), (*_NOT_NUMBERS, *_NEGATIVE, None)),
    ("session", "session_start_time", _TIMES, _NOT_TIMES),
    ("session", "session_end_time", (*_TIMES, None), _NOT_TIMES[:-1]),
    ("session", "stimulus_epochs.0.stimulus_start_time", _TIMES, _NOT_TIMES),
    ("rig", "modification_date", _DATES, _NOT_DATES),
    ("subject", "date_of_birth", _DATES, _NOT_DATES),
    ("subject", "describedBy", _ANYTHING, (None, 1)),
    ("session", "describedBy", _ANYTHING, (None, 1)),
    (
        "subject",
        "housing",
        tuple(
            {"light_cycle": {"lights_on_time": text, **_LIGHTS}}
            for text in ("06:00", "06:00:00", "06:00:00.5", "06:00:00-08:00")
        ),
        tuple(
            {"light_cycle": {"lights_on_time": text, **_LIGHTS}}
            for text in ("99:99:99", "24:00", "6", "06:60", "")
        ),
    ),
    (
        "rig",
        "filters",
        tuple([{**_FILTER, "thickness": value}] for value in (3, "3", 0, None)),
        tuple([{**_FILTER, "thickness": value}] for value in (-3, "-3", "thick")),
    ),
    (
        "procedures",
        "subject_procedures.0.anaesthesia",
        tuple({"type": "iso", "duration": "30", "level": level} for level in ("1", 1.5, "5.0", 5)),
        tuple({"type": "iso", "duration": "30", "level": level} for level in ("0.9", 6, "1e1")),
    ),
)


def sample(kind: str) -> dict[str, Any]:
    """Read a document of the demo."""
    folder = files("aind_data_transfer_service.demo") / "metadata"
    content: dict[str, Any] = json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))
    return content


def changes() -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Yield each change: kind of document, what was changed, the document, if it is valid."""
    for kind, place, right, wrong in _CHANGES:
        for is_valid, values in ((True, right), (False, wrong)):
            for value in values:
                content = sample(kind)
                _put(content, place, value)
                yield kind, f"{kind}.{place} = {value!r}", content, is_valid


def _put(content: Any, place: str, value: Any) -> None:
    """Replace a value by its place, such as `data_streams.0.daq_names`."""
    *parents, last = place.split(".")
    for name in parents:
        content = content[int(name) if name.isdigit() else name]
    content[last] = value
