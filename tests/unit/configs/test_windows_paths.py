"""Paths as Windows writes them: network names and drives."""

import json
import os
import re
import unittest
from pathlib import PurePosixPath, PureWindowsPath
from unicodedata import normalize
from unittest.mock import patch

from pydantic import ValidationError

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs, ModalityConfigs
from aind_data_transfer_service.configs.job_requests import parse_jobs
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.settings.upload import UploadSettings
from tests.unit.configs.builders import job, read_csv, read_xlsx, row

MAPPINGS = {
    "//server/share": "/vast/share",
    "//server/share/old": "/archive",
    "//server": "/mnt",
    "z:": "/vast/lab",
    "z:/scratch": "/scratch",
}


def request(source: str, **changes: object) -> str:
    """Write a job with one source as JSON text."""
    return json.dumps(job(modalities=[{"modality": "behavior", "source": source}], **changes))


class ClientTest(unittest.TestCase):
    """Without the settings of a service, a path stays what it is, in one form."""

    def test_network_names_and_drives_have_one_form(self):
        for given, expected in (
            ("//server/share/x", "//server/share/x"),
            (r"\\server\share\x", "//server/share/x"),
            (r"\\server/share\\x\ ".strip(), "//server/share/x"),
            (r"\\\\server\\share\\x", "//server/share/x"),
            ("//server/share/./x/", "//server/share/x"),
            (r"\\?\UNC\server\share\x", "//server/share/x"),
            ("\\\\server\\share\\x\u200b ", "//server/share/x"),
            (r"z:\data\x", "Z:/data/x"),
            ("Z:/data//x/", "Z:/data/x"),
            (r"\\?\Z:\data\x", "Z:/data/x"),
            (PureWindowsPath(r"Z:\data"), "Z:/data"),
            (PureWindowsPath(r"\\server\share\x"), "//server/share/x"),
            (PurePosixPath("//server/share/x"), "//server/share/x"),
        ):
            with self.subTest(given=given):
                config = ModalityConfigs(modality="fib", source=given)
                self.assertEqual(str(config.source), expected)
                self.assertEqual(ModalityConfigs.model_validate(config.model_dump()), config)

    def test_incomplete_ones_are_refused(self):
        for given, words in (
            ("//server", "is not a complete network name; write //server/share/folder"),
            (r"\\server\ ".strip(), "is not a complete network name"),
            (r"\\.\PhysicalDrive0", "is not a complete network name"),
            ("//server/share/../x", r"contains \.\."),
            (r"\\server\share\..\..\etc", r"contains \.\."),
            (r"Z:\..\x", r"contains \.\."),
            ("Z:x", "does not begin with /"),
        ):
            with self.subTest(given=given), self.assertRaisesRegex(ValidationError, words):
                ModalityConfigs(modality="fib", source=given)


class ServiceTest(unittest.TestCase):
    """A service knows where the cluster has them."""

    def read(self, source: str, mappings: dict[str, str] = MAPPINGS, **changes: object):
        """Read a job; return its one source, and the warnings."""
        warnings: list[str] = []
        (config,), errors = parse_jobs(
            [request(source, **changes)],
            path_mappings=mappings,
            warn=lambda number, text: warnings.append(text),
        )
        self.assertEqual(errors, [])
        return str(config.modalities[0].source), warnings

    def test_a_network_name_is_a_path_of_the_same_words(self):
        for given in ("//allen/aind/x", r"\\allen\aind\x", "//allen//aind/x/"):
            with self.subTest(given):
                source, [warning] = self.read(given, {})
                self.assertEqual(source, "/allen/aind/x")
                self.assertRegex(
                    warning, '^job 1, modalities.0.source: ".*" was read as /allen/aind/x$'
                )

    def test_the_longest_mapping_counts_whatever_the_case(self):
        for given, expected in (
            ("//server/share/x", "/vast/share/x"),
            ("//SERVER/Share/X", "/vast/share/X"),
            ("//server/share", "/vast/share"),
            ("//server/share/old/x", "/archive/x"),
            ("//server/share/older/x", "/vast/share/older/x"),
            ("//server/other/x", "/mnt/other/x"),
            ("//server2/share/x", "/server2/share/x"),
            (r"Z:\690165\Behavior videos", "/vast/lab/690165/Behavior videos"),
            ("z:", "/vast/lab"),
            ("Z:/Scratch/x", "/scratch/x"),
        ):
            with self.subTest(given):
                source, [warning] = self.read(given)
                self.assertEqual(source, expected)
                self.assertTrue(warning.endswith(f" was read as {expected}"), warning)

    def test_accents_of_a_mapping_are_the_same_in_both_forms_of_unicode(self):
        for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
            path = normalize(other, "//Server/Köln/é")
            environment = {"PATH_MAPPINGS": json.dumps({normalize(form, "//server/köln"): "/vast"})}
            with patch.dict(os.environ, environment):
                source, _ = self.read(path, UploadSettings().path_mappings)
            self.assertEqual(normalize(other, "/vast/é"), source)

    def test_a_drive_without_a_mapping_is_an_error_beside_the_others(self):
        _, errors = parse_jobs([request(r"Y:\x", platform="behaviour")], path_mappings=MAPPINGS)
        self.assertIn("unknown platform", errors[0])
        self.assertRegex(errors[1], r'source: "Y:\\x" is .*administrator add Y: to PATH_MAPPINGS')

    def test_posix_paths_are_left_alone_without_a_warning(self):
        for source in ("/server/share/x", "/vast/share/x", r"/vast/a\b", "/mnt/z:/x"):
            with self.subTest(source):
                self.assertEqual(self.read(source), (source, []))

    def test_what_was_read_is_read_again_as_the_same(self):
        text = request("//server/share/x", metadata_dir=r"Z:\meta")
        (config,), _ = parse_jobs([text], path_mappings=MAPPINGS | {"//vast/share": "/else"})
        again, _ = parse_jobs([config.model_dump_json()], path_mappings=MAPPINGS)
        self.assertEqual(again, [config])

    def test_every_path_of_a_job_is_read_so(self):
        modality = {
            "modality": "behavior",
            "source": "//server/share/x",
            "extra_configs": r"\\server\share\x.json",
        }
        warnings: list[str] = []
        (config,), _ = parse_jobs(
            [json.dumps(job(modalities=[modality], metadata_dir=r"Z:\meta"))],
            path_mappings=MAPPINGS,
            warn=lambda number, text: warnings.append(f"{number} {text}"),
        )
        self.assertEqual("/vast/share/x.json", config.modalities[0].extra_configs)
        self.assertEqual("/vast/lab/meta", str(config.metadata_dir))
        places = [warning.partition(":")[0] for warning in warnings]
        self.assertEqual(
            places,
            [
                "1 job 1, modalities.0.source",
                "1 job 1, modalities.0.extra_configs",
                "1 job 1, metadata_dir",
            ],
        )
        self.assertIsInstance(config, BasicUploadJobConfigs)

    def test_each_field_is_named_as_it_was_written(self):
        for first, second in (
            (r"\\server\share\x", "//SERVER/Share/x"),
            (r"Z:\x", "/vast/lab/x"),
            ("/vast/lab/x", r"Z:\x"),
            ("/vast/share/x", "//server/share/x"),
            (r"\\?\Z:\x", "z:/x"),
        ):
            modalities = [
                {"modality": name, "source": path}
                for name, path in (("behavior", first), ("fib", second))
            ]
            warnings: list[str] = []
            parse_jobs(
                [json.dumps(job(modalities=modalities, metadata_dir=first))],
                path_mappings=MAPPINGS,
                warn=lambda number, text: warnings.append(text),
            )
            written = (("modalities.0.source", first), ("modalities.1.source", second))
            expected = [
                f"job 1, {place}: {quoted(path)} was read as "
                for place, path in (*written, ("metadata_dir", first))
                if not path.startswith("/vast")
            ]
            with self.subTest(first=first, second=second):
                self.assertEqual(expected, [re.sub(r"/vast/.*", "", text) for text in warnings])


class SpreadsheetTest(unittest.TestCase):
    """Cells with such paths."""

    def test_each_cell_is_named_as_it_was_written(self):
        table = [
            row(
                modality0__source=r"Z:\x",
                modality2="fib",
                modality2__source="/vast/lab/x",
                modality3="fib",
                modality3__source="z:/x",
            )
        ]
        del table[0]["modality1"], table[0]["modality1.source"]
        for read in (read_csv, read_xlsx):
            self.assertEqual(
                [
                    'row 2, modality0.source: "Z:\\x" was read as /vast/lab/x',
                    'row 2, modality3.source: "z:/x" was read as /vast/lab/x',
                ],
                read(table, path_mappings=MAPPINGS).warnings,
            )

    def test_the_job_has_the_path_of_the_cluster_and_a_warning_names_the_cell(self):
        table = [row(modality0__source=r"\\server\share\x", metadata_dir="Z:/meta")]
        for read in (read_csv, read_xlsx):
            result = read(table, path_mappings=MAPPINGS)
            self.assertEqual(result.errors, [])
            [found] = result.rows
            self.assertIn('"/vast/share/x"', found.text)
            self.assertEqual(
                [warning.partition(' "')[0] for warning in result.warnings],
                ["row 2, modality0.source:", "row 2, metadata_dir:"],
            )
            self.assertTrue(result.warnings[0].endswith("was read as /vast/share/x"))

    def test_a_drive_without_a_mapping_is_an_error_of_its_cell(self):
        result = read_csv([row(modality0__source=r"Y:\x")], path_mappings={})
        self.assertRegex(result.errors[0], r'^row 2, modality0\.source: "Y:\\x" is a path of a')

    def test_a_long_file_shows_a_few_and_counts_the_others(self):
        table = [row(modality0__source=f"//s/h/{n}", subject_id=str(n)) for n in range(50)]
        result = read_csv(table, path_mappings={})
        self.assertEqual(len(result.rows), 50)
        self.assertEqual(len(result.warnings), 21)
        self.assertIn("30 more paths", result.warnings[-1])
        result = read_csv(table[:21], path_mappings={})
        self.assertEqual(
            "1 more path of Windows was read as a path of the cluster; see the rows",
            result.warnings[-1],
        )


if __name__ == "__main__":
    unittest.main()
