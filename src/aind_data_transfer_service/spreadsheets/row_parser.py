"""One row of a spreadsheet on its way to become a job."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from aind_data_transfer_service.configs import error_messages
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs, path_warnings
from aind_data_transfer_service.configs.no_values import no_value_problem
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.spreadsheets.cell_values import (
    fraction_problem,
    meant,
)
from aind_data_transfer_service.spreadsheets.header import Header, Source
from aind_data_transfer_service.spreadsheets.rows import Row, is_empty
from aind_data_transfer_service.spreadsheets.schema import JOB_COLUMNS

_CHECKED = frozenset({"text", "settings"})
"""Kinds of columns in which the model itself refuses texts that stand for no value."""


class Draft:
    """Takes a row's values out of its cells, and collects what is wrong with them, by column.

    Of a column, only the first thing that is wrong is told: the rest would follow from it.
    """

    __slots__ = (
        "_row",
        "_header",
        "_date1904",
        "_job",
        "_modalities",
        "_numbers",
        "_wrong",
        "warnings",
    )

    def __init__(self, row: Row, header: Header, date1904: bool = False):
        self._row = row
        self._header = header
        self._date1904 = date1904
        self._wrong: dict[str, str] = {}
        self._job: dict[str, Any] = {}
        self._modalities: list[dict[str, Any]] = []
        self._numbers: list[int] = []
        self.warnings: list[str] = []
        """What the job's author should look at, a line each."""

    def finish(self, context: dict[str, Any]) -> BasicUploadJobConfigs | None:
        """Make the job; None where something is wrong, which `lines` then tells."""
        self._take(self._header.job, self._job)
        self._take_modalities()
        self._require()
        self._job["modalities"] = self._modalities
        try:
            config = BasicUploadJobConfigs.model_validate(self._job, context=context)
        except ValidationError as error:
            for location, words in error_messages.listed(error):
                self.note(self._column(location), words)
            return None
        is_mapped = context.get("path_mappings") is not None
        renamed = path_warnings(config, self._job) if is_mapped else ()
        self.warnings += (
            f"row {self._row.number}, {self._column(location)}: {words}"
            for location, words in renamed
        )
        return None if self._wrong else config

    def note(self, column: str, words: str) -> None:
        """Keep what is wrong with a column."""
        self._wrong.setdefault(column, words)

    def lines(self) -> list[str]:
        """Tell what is wrong, a line each, in the order of the columns."""
        positions, last = self._header.positions, self._header.width
        wrong = sorted(self._wrong.items(), key=lambda item: positions.get(item[0], last))
        return [
            f"row {self._row.number}, {column}: {words}"
            for column, words in wrong
            if column not in self._header.missing
        ]

    def _take(self, sources: Sequence[Source], into: dict[str, Any]) -> None:
        """Take the values of cells that are not blank."""
        cells = self._row.cells
        width = len(cells)
        for source in sources:
            if source.index >= width:
                continue
            cell = cells[source.index]
            if type(cell) is str:
                # Most values begin with a character that everybody sees.
                if "!" <= cell[:1] <= "~" or not is_empty(cell):
                    if source.kind not in _CHECKED and (problem := no_value_problem(cell)):
                        self.note(source.column, problem)
                    into[source.field] = cell
                continue
            if isinstance(cell, bool) and source.field == "subject_id":
                self.note(
                    source.column,
                    f"{quoted(str(cell).upper())} is a check box or a truth value; format the cell "
                    "as text and write the subject's id, such as 690165",
                )
                continue
            if source.field == "subject_id" and (problem := fraction_problem(cell)):
                self.note(source.column, problem)
                continue
            try:
                into[source.field] = meant(cell, source.kind, self._date1904)
            except ValueError as error:
                self.note(source.column, str(error))

    def _take_modalities(self) -> None:
        """Take the modalities that are filled in, and see that there is no gap between them."""
        blank: list[int] = []
        for number, sources in self._header.modalities:
            values: dict[str, Any] = {}
            wrong = len(self._wrong)
            self._take(sources, values)
            if not values and len(self._wrong) == wrong:
                blank.append(number)
                continue
            self._complete(number, values)
            while blank:
                self.note(
                    f"modality{blank.pop()}",
                    f"empty, though modality{number} is filled; leave no gap between modalities",
                )
            self._numbers.append(number)
            self._modalities.append(values)

    def _complete(self, number: int, values: dict[str, Any]) -> None:
        """See that a modality has its kind and its source."""
        name = f"modality{number}"
        if "modality" not in values:
            self.note(name, f"empty, though other columns of {name} are filled; name the modality")
        if "source" not in values:
            self.note(f"{name}.source", f"empty; write the folder of the data of {name}")

    def _require(self) -> None:
        """See that the cells are filled without which there is no job."""
        for name in self._header.required:
            if name in JOB_COLUMNS and name not in self._job:
                self.note(name, "empty; every job needs it")
        if not self._modalities:
            self.note("modality0", "empty; every job needs a modality and its source")

    def _column(self, location: error_messages.Location) -> str:
        """Find the column of a place in the model."""
        if location[0] != "modalities":
            return str(location[0])
        if len(location) < 3:
            return "modality0"
        name = f"modality{self._numbers[int(location[1])]}"
        return name if location[2] == "modality" else f"{name}.{location[2]}"
