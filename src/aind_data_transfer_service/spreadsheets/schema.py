"""The columns of a spreadsheet of jobs: what they are called, what they hold, and how headers are
read.

A header may carry blanks round it, stand in any case, and have `-` or a blank for `_`. Any field
of the job may be a column, and any field of a modality, as `modality0.source`,
`modality1.skip_staging` and so on.
"""

import re
from dataclasses import dataclass
from typing import Literal

from aind_data_transfer_service import plain_text
from aind_data_transfer_service.configs.deprecated_fields import FORMER_FIELDS

Kind = Literal["text", "path", "time", "flag", "platform", "modality", "level", "settings"]

_BLANKS = re.compile(r"\s+")
_MODALITY = re.compile(r"modality(0|[1-9]\d?)(?:\.([a-z_]+))?", re.A)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what the template, the reader and the help page know of it."""

    name: str
    required: bool
    description: str
    example: str
    kind: Kind = "text"
    in_template: bool = False
    """Whether the template has the column; the others are there for whoever needs them."""


COLUMNS: tuple[Column, ...] = (
    Column(
        "processor_full_name",
        True,
        "Name of the person who submits the upload job.",
        "Anna Apple",
        in_template=True,
    ),
    Column(
        "project_name",
        True,
        "Project name, as it stands in the list behind the link Project Names.",
        "Ephys Platform",
        in_template=True,
    ),
    Column(
        "process_capsule_id",
        False,
        "Code Ocean capsule or pipeline to run when the data are uploaded.",
        "1f8f159a-7670-47a9-baf1-078905fc9c2e",
        in_template=True,
    ),
    Column(
        "platform",
        True,
        "Platform of the session, chosen from the list in the cell.",
        "behavior",
        "platform",
        in_template=True,
    ),
    Column(
        "acq_datetime",
        True,
        "Date and time at which the data were acquired, by the lab's clock. A date alone is not "
        "enough: for midnight, write 2024-02-19T00:00:00 as text.",
        "2024-02-19 11:25:17",
        "time",
        in_template=True,
    ),
    Column(
        "subject_id",
        True,
        "Unique id of the subject: letters, digits, - and . only.",
        "690165",
        in_template=True,
    ),
    Column(
        "modality0",
        True,
        "Kind of the first data, chosen from the list in the cell. Further ones go into modality1, "
        "modality2 and so on, with no gap between them.",
        "behavior",
        "modality",
        in_template=True,
    ),
    Column(
        "modality0.source",
        True,
        "Folder of the first data, as a path from the root of the shared drive.",
        "/shared_drive/vr_foraging/690165/20240219T112517/Behavior",
        "path",
        in_template=True,
    ),
    Column(
        "modality1",
        False,
        "Kind of the second data. Leave empty where there are none.",
        "behavior-videos",
        "modality",
        in_template=True,
    ),
    Column(
        "modality1.source",
        False,
        "Folder of the second data. Needed where modality1 is filled.",
        "/shared_drive/vr_foraging/690165/20240219T112517/Behavior videos",
        "path",
        in_template=True,
    ),
    Column(
        "metadata_dir",
        False,
        "Folder of metadata json files that were made beforehand.",
        "/shared_drive/vr_foraging/690165/20240219T112517/Configs",
        "path",
        in_template=True,
    ),
    Column(
        "s3_bucket",
        False,
        "Bucket to upload to: its name, or private, open, scratch or default. Left empty, the "
        "service's own choice.",
        "aind-open-data",
    ),
    Column(
        "metadata_dir_force",
        False,
        "TRUE: files in metadata_dir win over those of the metadata service.",
        "FALSE",
        "flag",
    ),
    Column(
        "force_cloud_sync",
        False,
        "TRUE: upload into an asset that is in the bucket already.",
        "FALSE",
        "flag",
    ),
    Column(
        "dry_run",
        False,
        "TRUE: only tell what would be done, and upload nothing.",
        "FALSE",
        "flag",
    ),
    Column(
        "log_level",
        False,
        "How much the job writes into its log: DEBUG, INFO, WARNING, ERROR or CRITICAL.",
        "INFO",
        "level",
    ),
    Column(
        "modality0.compress_raw_data",
        False,
        "Whether to compress these data on the way. Left empty: only ecephys.",
        "FALSE",
        "flag",
    ),
    Column(
        "modality0.extra_configs",
        False,
        "More settings for these data: a JSON object, or the path of a file that holds one.",
        '{"chunk_duration": "1s"}',
        "settings",
    ),
    Column(
        "modality0.skip_staging",
        False,
        "Kept for older spreadsheets; data are never staged.",
        "FALSE",
        "flag",
    ),
)
"""Every column, the template's first and in its order; `modality0.` stands for any number."""

JOB_COLUMNS = FORMER_FIELDS.union(c.name for c in COLUMNS if not c.name.startswith("modality"))
"""The columns that fill a field of the job itself, those of earlier releases included."""

MODALITY_COLUMNS = frozenset(
    c.name.partition(".")[2] for c in COLUMNS if c.name.startswith("modality0.")
)
"""What may follow the dot of `modality0.`."""

REQUIRED_COLUMNS = tuple(c.name for c in COLUMNS if c.required)
PROCESSOR = "processor_full_name"
"""The required column that the service may make optional."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the values of a column go: a field of the job, or of its nth modality."""

    field: str
    modality: int | None = None

    @property
    def column(self) -> str:
        """The column's name as it should be written."""
        if self.modality is None:
            return self.field
        stem = f"modality{self.modality}"
        return stem if self.field == "modality" else f"{stem}.{self.field}"


def normalised(header: str) -> str:
    """Bring a header into the one right spelling, as far as that can be told.

    `' Subject ID '` becomes `subject_id`, and `modality0 .source` becomes `modality0.source`.
    """
    name = _BLANKS.sub(" ", plain_text.without_unseen(header)).strip().lower()
    name = ".".join(part.strip() for part in name.split("."))
    return name.replace(" ", "_").replace("-", "_")


def target(name: str) -> Target | None:
    """Find where the values of a column go, by its normalised name; None where it is not known."""
    if name in JOB_COLUMNS:
        return Target(name)
    found = _MODALITY.fullmatch(name)
    if found is None:
        return None
    number, field = int(found[1]), found[2]
    if field is None:
        return Target("modality", number)
    return Target(field, number) if field in MODALITY_COLUMNS else None


def known_names(header: str) -> list[str]:
    """List the names that a header may have been meant to be, with the numbers that it holds."""
    names = [column.name for column in COLUMNS]
    for number in {0, 1, *map(int, re.findall(r"(?<!\d)\d{1,2}(?!\d)", header, re.A))}:
        names.append(f"modality{number}")
        names.extend(f"modality{number}.{field}" for field in sorted(MODALITY_COLUMNS))
    return list(dict.fromkeys(names))
