"""Spreadsheets that were made to cost time or memory: small to send, expensive to read."""

import io
import zipfile

_MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-'
    'officedocument.spreadsheetml.sheet.main+xml"/></Types>'
)
HEADER = (
    "processor_full_name,project_name,platform,acq_datetime,subject_id,modality0,modality0.source"
)


def workbook(
    rows: str = "",
    sheets: int = 1,
    names: str = "",
    before: str = "",
    after: str = "",
    **parts: str,
) -> bytes:
    """Write a workbook by hand.

    Parameters
    ----------
    rows : str
        XML of the rows of the first sheet.
    sheets : int
        How many sheets it claims to have; all are the same part.
    names : str
        XML of its defined names.
    before, after : str
        XML before and after the rows of the first sheet.
    **parts : str
        Further parts under `xl/`, by their names without the ending.
    """
    listed = "".join(
        f'<sheet name="s{number}" sheetId="{number}" r:id="r1"/>' for number in range(1, sheets + 1)
    )
    members = {
        "[Content_Types].xml": _TYPES,
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}"><Relationship Id="r0" '
        f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook {_MAIN} xmlns:r="{_RELATIONS}"><sheets>{listed}</sheets>'
        f"<definedNames>{names}</definedNames></workbook>",
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}"><Relationship Id="r1" '
        f'Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f"<worksheet {_MAIN}>{before}<sheetData>{rows}</sheetData>"
        f"{after}</worksheet>",
    }
    members |= {f"xl/{name}.xml": content for name, content in parts.items()}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def many_sheets(count: int = 200_000) -> bytes:
    """Make a workbook of 1 MB that lists one sheet again and again."""
    return workbook(sheets=count)


def many_rows(count: int = 2_900_000) -> bytes:
    """Make a workbook of 0.2 MB with millions of rows of one value."""
    return workbook(rows="<row><c><v>1</v></c></row>" * count)


def jobs_csv(size: int, most: int = 10**9, length: int = 0) -> bytes:
    """Make a CSV file of good rows: of `size` bytes, or of `most` rows; each at least `length`."""
    lines, total = [HEADER], 0
    for number in range(most):
        if total >= size:
            break
        line = f"Anna,P,behavior,2024-02-19 11:25:17,{number},behavior,/nowhere/{number}"
        lines.append(line.ljust(length, "x"))
        total += len(lines[-1]) + 1
    return "\n".join([*lines, ""]).encode()
