"""Limits on a spreadsheet of jobs.

Each is checked before the work that it bounds. All are far above what a list of jobs needs.
"""

MIB = 1024**2

MAX_FILE_BYTES = 32 * MIB
"""Size of a file."""

MAX_UNPACKED_BYTES = 96 * MIB
"""Size of the unpacked parts of a workbook, in total."""

MAX_PARTS = 2_000
"""Parts (files in the archive) of a workbook."""

MAX_TAGS = 6_000_000
"""XML tags in all parts of a workbook that are read, relationships and content types included."""

MAX_DEPTH = 64
"""Levels of nested XML elements."""

MAX_SHEETS = 100
"""Sheets of a workbook, hidden ones included."""

MAX_DEFINED_NAMES = 10_000
"""Named ranges of a workbook."""

MAX_SHEET_ROWS = 100_000
"""Number of the last row of a sheet that holds a value."""

MAX_CELLS = 1_000_000
"""Cells of a file, blank ones inside the tables included: 20,000 rows of 50 columns."""

MAX_JOBS = 20_000
"""Jobs, one in each row."""

MAX_COLUMNS = 256
"""Columns of a row."""

MAX_CELL_CHARACTERS = 32_767
"""Characters of a cell: the limit of Excel."""

MAX_JOB_CHARACTERS = 65_536
"""Characters of one job as JSON text, in a spreadsheet or a request."""

MAX_CHARACTERS = 64 * MIB
"""Characters in all cells of a workbook; a repeated text counts each time."""

MAX_LINE_CHARACTERS = 1_000_000
"""Characters of a line of a CSV file."""

MAX_ERRORS = 100
"""Errors that are listed; the others are counted. The same holds for warnings."""

MAX_COUNTED_ERRORS = 50_000
"""Errors after which the check of the rows stops: more than two in each of 20,000 rows."""
