"""Workbooks that Excel and LibreOffice open, though few programs would write them."""

import io
import re
import unittest
import zipfile

from aind_data_transfer_service.spreadsheets.reader import ReadResult, read_jobs
from tests.unit.configs.builders import ACQUIRED, row, rows, saved, workbook, xlsx_file

Parts = dict[str, bytes]
RELS = "xl/_rels/workbook.xml.rels"
SHEET = "xl/worksheets/sheet1.xml"
BOOK = "xl/workbook.xml"
STRINGS = "xl/sharedStrings.xml"
MAIN = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
KIND = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings"


def unpacked(data: bytes) -> Parts:
    """Unpack a workbook."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(parts: Parts) -> bytes:
    """Pack a workbook."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return data.getvalue()


def read(parts: Parts) -> ReadResult:
    """Read a workbook."""
    return read_jobs(packed(parts), "jobs.xlsx")


class PackageTest(unittest.TestCase):
    """A test of a workbook of one job, in a date cell and shared texts."""

    def setUp(self) -> None:
        """Make the parts of the workbook."""
        self.parts = self.make()

    @staticmethod
    def make(**changes: str) -> Parts:
        """Make the parts of a workbook whose texts are shared."""
        parts = unpacked(xlsx_file([row(acq_datetime=ACQUIRED, **changes)]))
        texts: list[bytes] = []

        def share(found: re.Match[bytes]) -> bytes:
            texts.append(found[1])
            return b't="s"><v>%d</v>' % (len(texts) - 1)

        parts[SHEET] = re.sub(rb't="inlineStr"><is>(.*?)</is>', share, parts[SHEET])
        items = b"".join(b"<si>%s</si>" % text for text in texts)
        parts[STRINGS] = b'<sst xmlns="%s">%s</sst>' % (MAIN, items)
        relationship = b'<Relationship Id="rId9" Type="%s" Target="/xl/sharedStrings.xml"/>' % KIND
        parts[RELS] = parts[RELS].replace(b"</Rel", relationship + b"</Rel")
        return parts

    def rename(self, old: str, new: str) -> None:
        """Rename parts, relationships and content types included, by a regular expression."""
        self.parts = {re.sub(old, new, name): value for name, value in self.parts.items()}

    def edit(self, part: str, old: str, new: str, count: int = 0) -> None:
        """Change the XML of a part by a regular expression."""
        before = self.parts[part]
        self.parts[part] = re.sub(old.encode(), new.encode(), before, count=count)
        self.assertNotEqual(before, self.parts[part])

    def assert_read(self, count: int = 1) -> ReadResult:
        """Make sure that the jobs are read."""
        result = read(self.parts)
        self.assertEqual([], result.errors)
        self.assertEqual(count, len(result.rows))
        self.assertEqual(ACQUIRED, result.rows[0].config.acq_datetime)
        self.assertEqual("Anna Apple", result.rows[0].config.processor_full_name)
        return result

    def assert_only_error(self, words: str) -> None:
        """Make sure that the workbook is refused with one error."""
        result = read(self.parts)
        self.assertEqual([], result.rows)
        [error] = result.errors
        self.assertIn(words, error)


class PlacesTest(PackageTest):
    """Parts may have any name and any place."""

    def test_parts_in_the_root(self):
        self.rename("^xl/", "")
        self.edit("_rels/.rels", "xl/workbook.xml", "workbook.xml")
        self.edit("_rels/workbook.xml.rels", "/xl/", "/")
        self.assert_read()

    def test_another_name_or_folder_of_the_workbook(self):
        for path in ("xl/workbook22.xml", "xl/Workbook.XML", "book/a b.xml", "x/y/z/w.xml"):
            with self.subTest(path=path):
                self.setUp()
                folder, _, name = path.rpartition("/")
                self.rename("^xl/workbook.xml$", path)
                self.rename("^xl/_rels/workbook.xml.rels$", f"{folder}/_rels/{name}.rels")
                self.edit("_rels/.rels", "xl/workbook.xml", path.replace(" ", "%20"))
                self.assert_read()

    def test_other_names_of_sheets_texts_and_styles(self):
        self.rename("sheet1.xml", "Tabelle 1.xml")
        self.rename("sharedStrings.xml", "texts/all.xml")
        self.rename("styles.xml", "look.xml")
        self.edit(RELS, "sheet1.xml", "tabelle%201.xml")
        self.edit(RELS, "sharedStrings.xml", "texts/all.xml")
        self.edit(RELS, "styles.xml", "LOOK.xml")
        self.assert_read()

    def test_ways_to_write_a_target(self):
        for target in (
            "worksheets/sheet1.xml",
            "./worksheets/sheet1.xml",
            "../xl/worksheets/sheet1.xml",
            "xl/worksheets/sheet1.xml",
            "/XL/Worksheets/Sheet1.xml",
            r"worksheets\\sheet1.xml",
            r"\\xl\\worksheets\\sheet1.xml",
        ):
            with self.subTest(target=target):
                self.setUp()
                self.edit(RELS, "/xl/worksheets/sheet1.xml", target)
                self.assert_read()

    def test_ways_to_write_names_in_the_archive(self):
        for old, new in (("/", r"\\"), ("^", "/"), ("^", "./"), ("/", "//"), ("xl/", "XL/")):
            with self.subTest(new=new):
                self.setUp()
                self.rename(old, new)
                self.assert_read()

    def test_without_the_relationship_of_the_workbook(self):
        self.rename("^xl/workbook.xml$", "xl/other.xml")
        self.rename("^xl/_rels/workbook.xml.rels$", "xl/_rels/other.xml.rels")
        self.edit("[Content_Types].xml", "/xl/workbook.xml", "/xl/other.xml")
        del self.parts["_rels/.rels"]
        self.assert_read()

    def test_other_parts_do_not_matter(self):
        self.parts |= {
            "xl/externalLinks/externalLink1.xml": b"<externalLink",
            "xl/media/image1.png": b"\x89PNG",
            "xl/MEDIA/image1.png": b"\x89PNG",
            "customXml/item1.xml": b"<!DOCTYPE a><a/>",
            "xl/worksheets/": b"",
        }
        self.assert_read()

    def test_a_file_without_a_workbook(self):
        self.edit("_rels/.rels", "xl/workbook.xml", "xl/gone.xml")
        self.rename("^xl/workbook.xml$", "xl/other.xml")
        self.assert_only_error("no .xlsx workbook")
        self.parts = {"xl/workbook.bin": b"\x83\x01"}
        self.parts["_rels/.rels"] = unpacked(xlsx_file([row()]))["_rels/.rels"].replace(
            b"workbook.xml", b"workbook.bin"
        )
        self.assert_only_error("no .xlsx workbook")


class SheetsTest(PackageTest):
    """Sheets that were never written are no sheets of jobs."""

    def test_a_sheet_without_a_part(self):
        for reference in ('r:id=""', 'r:id="rId99"', ""):
            with self.subTest(reference=reference):
                self.setUp()
                extra = f'<sheet name="Old" sheetId="9" {reference}/></sheets>'
                self.edit(BOOK, "</sheets>", extra)
                self.assert_read()

    def test_a_sheet_whose_part_is_missing(self):
        del self.parts[SHEET]
        self.assert_only_error('the file is damaged: the sheet "Jobs" is missing')

    def test_no_sheet_has_a_part(self):
        del self.parts[RELS]
        self.assert_only_error("the file is damaged")

    def test_the_names_of_sheets_are_those_of_the_workbook(self):
        self.parts = unpacked(saved(workbook(**{"<A & B>": rows(1), "Ü": rows(1)})))
        self.assert_only_error('"<A & B>", "Ü"')


class XmlTest(PackageTest):
    """XML that is unusual and right, or that programs forgive."""

    def test_references_in_lower_case(self):
        self.parts[SHEET] = re.sub(
            rb'<c r="[A-Z]+', lambda found: found[0].lower(), self.parts[SHEET]
        )
        self.assert_read()

    def test_encodings_of_parts(self):
        for encoding, name in (("utf-16", "UTF-16"), ("iso-8859-1", "iso-8859-1")):
            with self.subTest(encoding=encoding):
                self.parts = self.make(project_name="Zoë's Projekt")
                for part in (SHEET, BOOK, RELS, STRINGS):
                    text = re.sub(r"<\?xml.*?\?>", "", self.parts[part].decode())
                    text = f'<?xml version="1.0" encoding="{name}"?>\n{text}'
                    self.parts[part] = text.encode(encoding)
                result = self.assert_read()
                self.assertEqual("Zoë's Projekt", result.rows[0].config.project_name)

    def test_dimensions_that_say_nothing(self):
        for dimension in (
            '<dimension ref=""/>',
            "<dimension/>",
            '<dimension ref="x"></dimension>',
            '<dimension ref="a1:k2" />',
        ):
            with self.subTest(dimension=dimension):
                self.setUp()
                self.edit(SHEET, "<dimension[^>]*/>", dimension)
                self.assert_read()

    def test_errors_of_new_and_unknown_kinds(self):
        for error in ("#SPILL!", "#CALC!", "#BLOCKED!", "#N/A", "#FIELD!", "#Ünknown?", ""):
            with self.subTest(error=error):
                self.setUp()
                cell = f'<c t="e" r="K2"><v>{error}</v></c></row></sheetData>'
                self.edit(SHEET, "</row></sheetData>", cell)
                [line] = read(self.parts).errors
                self.assertTrue(line.startswith("row 2, metadata_dir: the cell holds an error"))
                self.edit(SHEET, 'r="K2"', 'r="K9"')
                errors = read(self.parts).errors
                words = "row 9, metadata_dir: the cell holds an error"
                self.assertTrue(any(one.startswith(words) for one in errors), errors)

    def test_cells_of_shared_texts_without_a_number(self):
        for cell in ("<v></v>", "<v/>", "<v />", ""):
            with self.subTest(cell=cell):
                self.setUp()
                end = f'<c r="K2" t="s">{cell}</c></row></sheetData>'
                self.edit(SHEET, "</row></sheetData>", end)
                self.assertIsNone(self.assert_read().rows[0].config.metadata_dir)

    def test_blanks_and_sections_around_values(self):
        for value in (
            r"\n  \1\n",
            r" \1",
            r"\1\t",
            r"<![CDATA[\1]]>",
            r" <![CDATA[ \1 ]]> ",
            r"<!-- value -->\1",
            r"\1<!-- </c> -->",
            r"<!-- </v> -->\1<!-- <v> -->",
            r"<?program data?>\1",
        ):
            with self.subTest(value=value):
                self.setUp()
                self.edit(SHEET, "<v>([^<]*)</v>", f"<v>{value}</v>")
                self.assert_read()

    def test_the_number_of_a_shared_text_that_is_none(self):
        for number in ("x", "-1", "1.5", "999999", "1 2"):
            with self.subTest(number=number):
                self.setUp()
                cell = f'<c r="K2" t="s"><v>{number}</v></c></row></sheetData>'
                self.edit(SHEET, "</row></sheetData>", cell)
                self.assert_only_error("the file is damaged")

    def test_values_written_with_references_to_characters(self):
        def referring(value: re.Match[str]) -> str:
            return "".join(f"&#{ord(character)};" for character in value[0])

        sheet = self.parts[SHEET].decode()
        self.parts[SHEET] = re.sub("(?<=<v>)[^<]+", referring, sheet).encode()
        self.assert_read()
        for kind, value, expected in (
            ("n", "6&#57;0", "690"),
            ("n", "<![CDATA[69]]>0", "690"),
            ("n", "69<!-- -->0", "690"),
            ("n", "<?program data?>690", "690"),
            ("b", "&#49;", "TRUE"),
            ("str", "R&amp;D<!-- </v> -->&lt;1<?program data?>", "R&D<1"),
        ):
            with self.subTest(kind=kind, value=value):
                self.setUp()
                self.edit(SHEET, r'<c r="B2".*?</c>', f'<c r="B2" t="{kind}"><v>{value}</v></c>')
                self.assertEqual(expected, self.assert_read().rows[0].config.project_name)

    def test_texts_with_sections_and_signs(self):
        text = "<t>R&amp;D &lt;a&gt;<![CDATA[ & <b>]]></t>"
        self.edit(STRINGS, "<t>Ephys Platform</t>", text)
        self.assertEqual("R&D <a> & <b>", self.assert_read().rows[0].config.project_name)
        self.setUp()
        cell = '<c r="B2" t="str"><v>R&amp;D <![CDATA[ & <b>]]></v></c>'
        self.edit(SHEET, r'<c r="B2".*?</c>', cell)
        self.assertEqual("R&D  & <b>", self.assert_read().rows[0].config.project_name)

    def test_empty_styles(self):
        self.parts["xl/styles.xml"] = b""
        self.assert_read()

    def test_a_cell_of_an_unknown_type_is_a_text(self):
        cell = '<c r="K2" t="text"><v>/data/documents</v></c></row></sheetData>'
        self.edit(SHEET, "</row></sheetData>", cell)
        config = self.assert_read().rows[0].config
        self.assertEqual("/data/documents", str(config.metadata_dir))

    def test_blanks_between_formatted_runs_are_kept(self):
        for runs in (
            "<r><t>Ephys </t></r><r><rPr><b/></rPr><t>Platform</t></r>",
            "<r><t>Ephys</t></r><r><t> Platform</t></r>",
            "<r><t>Ephys</t></r><r><t> </t></r><r><t>Platform</t></r>",
            '<r><t xml:space="preserve">Ephys </t></r><r><t>Platform</t></r>',
        ):
            for part, old, new in (
                (STRINGS, "<t>Ephys Platform</t>", runs),
                (SHEET, r'<c r="B2".*?</c>', f'<c r="B2" t="inlineStr"><is>{runs}</is></c>'),
            ):
                with self.subTest(runs=runs, part=part):
                    self.setUp()
                    self.edit(part, old, new)
                    config = self.assert_read().rows[0].config
                    self.assertEqual("Ephys Platform", config.project_name)

    def test_formulas_of_extensions_are_no_cells(self):
        extension = (
            '<c r="K2" s="1"/></row></sheetData><extLst><ext xmlns:x14="urn:a" xmlns:xm="urn:b">'
            "<x14:formula1><xm:f>Lists!$A$1:$A$3</xm:f></x14:formula1></ext></extLst></worksheet>"
        )
        self.edit(SHEET, "</row></sheetData>.*</worksheet>", extension)
        self.assert_read()


if __name__ == "__main__":
    unittest.main()
