"""The spreadsheet that users begin with: sample jobs, lists to choose from, and explanations.

The file is read by `read_jobs` as it is, so the samples show exactly what is right.
"""

from datetime import datetime
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

from aind_data_transfer_service.configs.vocabulary import MODALITIES, PLATFORMS
from aind_data_transfer_service.spreadsheets.rows import column_letters
from aind_data_transfer_service.spreadsheets.schema import COLUMNS, Column

if TYPE_CHECKING:
    from openpyxl.worksheet.worksheet import Worksheet

TIME_FORMAT = "yyyy-mm-dd hh:mm:ss"
"""Shows date and time whole, on every computer alike, and so goes into a CSV file, too."""

_LAST_ROW = 20_001
_TEXT_FORMAT = "@"
_WIDTHS = {"path": 62, "time": 22, "text": 26}
_CHOICES = {
    "platform": [term.abbreviation for term in PLATFORMS],
    "modality": [term.abbreviation for term in MODALITIES],
    "flag": ["TRUE", "FALSE"],
}
_EXPLAINED = (("Column", 30), ("Needed", 10), ("What it holds", 90), ("Example", 66))


def template_columns() -> tuple[Column, ...]:
    """List the columns of the template in their order."""
    return tuple(column for column in COLUMNS if column.in_template)


def sample_rows() -> tuple[dict[str, str | datetime], ...]:
    """Give the template's sample jobs: a value for each column that is not left empty."""
    foraging = "/shared_drive/vr_foraging/690165/20240219T112517"
    probes = "/shared_drive/ephys_rig/690166/20240220T093000"
    common = {"processor_full_name": "Anna Apple", "project_name": "Ephys Platform"}
    return (
        {
            **common,
            "platform": "behavior",
            "acq_datetime": datetime(2024, 2, 19, 11, 25, 17),
            "subject_id": "690165",
            "modality0": "behavior",
            "modality0.source": f"{foraging}/Behavior",
            "modality1": "behavior-videos",
            "modality1.source": f"{foraging}/Behavior videos",
            "metadata_dir": f"{foraging}/Configs",
        },
        {
            **common,
            "process_capsule_id": "1f8f159a-7670-47a9-baf1-078905fc9c2e",
            "platform": "ecephys",
            "acq_datetime": datetime(2024, 2, 20, 9, 30),
            "subject_id": "690166",
            "modality0": "ecephys",
            "modality0.source": f"{probes}/Ecephys",
        },
    )


@cache
def job_upload_template() -> bytes:
    """Make the template, an .xlsx file."""
    from openpyxl import Workbook  # imported late: only the service makes templates

    workbook = Workbook()
    jobs = workbook.active
    jobs.title = "Jobs"
    _fill_jobs(jobs)
    _fill_explanation(workbook.create_sheet("Columns"))
    file = BytesIO()
    workbook.save(file)
    return file.getvalue()


def _fill_jobs(sheet: "Worksheet") -> None:
    """Write the header and the samples, and help with filling in more."""
    described = template_columns()
    for index, column in enumerate(described):
        letters = column_letters(index)
        format_ = TIME_FORMAT if column.kind == "time" else _TEXT_FORMAT
        sheet.column_dimensions[letters].width = _WIDTHS.get(column.kind, 18)
        sheet.column_dimensions[letters].number_format = format_
        _help_filling_in(sheet, f"{letters}2:{letters}{_LAST_ROW}", column)
        for row, sample in enumerate(sample_rows(), start=2):
            cell = sheet.cell(row, index + 1, sample.get(column.name))
            cell.number_format = format_
    _write_header(sheet, [column.name for column in described])


def _help_filling_in(sheet: "Worksheet", cells: str, column: Column) -> None:
    """Explain a column when one of its cells is chosen, and offer the known words."""
    from openpyxl.worksheet.datavalidation import DataValidation

    choices = _CHOICES.get(column.kind)
    help_ = DataValidation(
        sqref=cells,
        type="list" if choices else None,
        formula1=f'"{",".join(choices)}"' if choices else None,
        allow_blank=True,
        showInputMessage=True,
        promptTitle=column.name[:32],
        prompt=column.description[:255],
    )
    if choices:
        help_.showErrorMessage = True
        help_.errorTitle = f"Unknown {column.kind}"
        help_.error = f"Choose one of: {', '.join(choices)}"[:225]
    sheet.add_data_validation(help_)


def _fill_explanation(sheet: "Worksheet") -> None:
    """Write what each column holds, the template's and the others."""
    from openpyxl.styles import Alignment

    for index, (_, width) in enumerate(_EXPLAINED):
        sheet.column_dimensions[column_letters(index)].width = width
    for row, column in enumerate(COLUMNS, start=2):
        texts = (
            column.name,
            "yes" if column.required else "no",
            column.description,
            column.example,
        )
        for place, text in enumerate(texts, start=1):
            cell = sheet.cell(row, place, text)
            cell.number_format = _TEXT_FORMAT
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    _write_header(sheet, [title for title, _ in _EXPLAINED])


def _write_header(sheet: "Worksheet", titles: list[str]) -> None:
    """Write the first row, in bold on a tint, and keep it in sight."""
    from openpyxl.styles import Font, PatternFill

    for index, title in enumerate(titles, start=1):
        cell = sheet.cell(1, index, title)
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="DCE6F1")
    sheet.freeze_panes = "A2"
