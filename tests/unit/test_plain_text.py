"""Characters and numbers that no request may hold, in every field and on every way in."""

import json
import tracemalloc
import unicodedata
import unittest

from pydantic import ValidationError

from aind_data_transfer_service.configs.error_messages import explain
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.configs.job_requests import parse_jobs
from aind_data_transfer_service.jobs.json_text import read_object
from aind_data_transfer_service.plain_text import first_lines, listed, wrong_character
from tests.unit.configs.builders import job, read_csv, read_xlsx, row

REFUSED = {
    "\0": "U+0000",
    "\x07": "U+0007",
    "\x1b": "U+001B",
    "\x7f": "U+007F",
    "\x9b": "U+009B",
    "\u061c": "U+061C",
    "\u200e": "U+200E",
    "\u202a": "U+202A",
    "\u202e": "U+202E",
    "\u2066": "U+2066",
    "\u2069": "U+2069",
    "\u00ad": "U+00AD",
    "\u200b": "U+200B",
    "\u200d": "U+200D",
    "\u2060": "U+2060",
    "\ufeff": "U+FEFF",
    "\u3164": "U+3164",
    "\U000e0041": "U+E0041",
    "\ud800": "U+D800",
    "\udcff": "U+DCFF",
}
FIELDS = {
    "processor_full_name": "An{}na",
    "project_name": "Ep{}hys",
    "process_capsule_id": "1f{}8f",
    "s3_bucket": "ai{}nd",
    "platform": "be{}havior",
    "subject_id": "69{}01",
    "acq_datetime": "20{}24-02-19T11:25:17",
    "metadata_dir": "/a{}b",
    "metadata_dir_force": "TR{}UE",
    "force_cloud_sync": "TR{}UE",
    "dry_run": "TR{}UE",
    "log_level": "IN{}FO",
}
OF_A_MODALITY = {
    "modality": "be{}havior",
    "source": "/a{}b",
    "compress_raw_data": "TR{}UE",
    "skip_staging": "TR{}UE",
    "extra_configs": "/a{}b",
}


class Characters(unittest.TestCase):
    """What a text is asked."""

    def test_plain_texts_of_any_language_are_plain(self):
        for text in (
            "",
            "Zoë O'Brien",
            "日本語",
            "שלום",
            "مرحبا",
            "\U0001f9e0",
            "a\u00a0b",
            "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
            "\u0915\u094d\u200d\u0937",
            "\u2764\ufe0f\u200d\U0001f525",
        ):
            self.assertEqual("", wrong_character(text))

    def test_the_first_is_named_by_code_point_and_place(self):
        for character, code in REFUSED.items():
            found = wrong_character(f"ab{character}c{character}")
            self.assertRegex(found, rf"\({code.replace('+', '[+]')}\) at character 3$")

    def test_what_belongs_to_a_letter_is_allowed_and_kept_at_the_end_of_a_word(self):
        for text in (
            "\u0d30\u0d3e\u0d1c\u0d28\u0d4d\u200d \u0d28\u0d3e\u0d2f\u0d30\u0d4d\u200d",
            "\u0915\u094d\u200d",
            "\u0995\u09cd\u200c",
            "\u0d9a\u0dca\u200d.",
            "1403 \u0647\u200d.\u0642",
            "\u06be\u200d",
            "\u8fbb\U000e0100 \u592a\u90ce",
            "\u845b\U000e0100",
            "\U00020bb7\U000e01ef",
            "\u3007\U000e0101",
            "\u00a9\ufe0f lab",
            "Ephys\u00ae\ufe0e",
            "\u203c\ufe0f",
            "1\ufe0f\u20e3 probe #\ufe0f\u20e3",
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f lab",
        ):
            for blank in ("", " ", "\u200b", "\ufeff\u00a0"):
                with self.subTest(text=ascii(text), blank=ascii(blank)):
                    changes = {
                        "project_name": f"{blank}{text}{blank}",
                        "modality0.source": f"{blank}/data/{text}{blank}",
                        "metadata_dir": f"{blank}/data/{text}/x{blank}",
                    }
                    for read in (read_csv, read_xlsx):
                        result = read([row() | changes])
                        self.assertEqual([], result.errors)
                        config = result.rows[0].config
                        self.assertEqual(text, config.project_name)
                        self.assertEqual(f"/data/{text}", str(config.modalities[0].source))
                        self.assertEqual(f"/data/{text}/x", str(config.metadata_dir))

    def test_every_virama_of_unicode_may_have_a_joiner_at_the_end(self):
        viramas = [c for c in map(chr, range(0x20000)) if unicodedata.combining(c) == 9]
        self.assertGreater(len(viramas), 50)
        for virama in viramas:
            self.assertEqual("", wrong_character(f"{virama}\u200d x"))

    def test_parts_of_letters_elsewhere_are_refused(self):
        for text in (
            "a\U000e0100b",
            "\u0915\U000e0100\u0915",
            "\u8fbb\U000e0100\U000e0100x",
            "\u0915\u094d\u200d\u200d x",
            "1\ufe0f x",
            "a\u00a9\ufe00x",
            "\U0001f3f4\U000e0067 x",
            "\U0001f3f4\U000e007f x",
            "\U0001f525\U000e0067\U000e007f x",
        ):
            with self.subTest(text=ascii(text)):
                self.assertIn("an invisible character", wrong_character(text))

    def test_joiners_are_for_the_letters_that_need_them(self):
        for text in ("An\u200cna", "\u200d", "\u0639\u200c", "a\ufe0f", "\u0639\u200c5"):
            self.assertRegex(wrong_character(text), r"^an invisible character \(U\+")

    def test_lines_may_be_allowed(self):
        self.assertEqual("", wrong_character("a\r\n\tb", has_lines=True))
        self.assertIn("U+000A", wrong_character("a\nb"))
        self.assertIn("U+202E", wrong_character("a\n\u202e", has_lines=True))


class Fields(unittest.TestCase):
    """Every field of a request."""

    def requests(self):
        """Give each field with each character: its place, the code point and the request."""
        for character, code in REFUSED.items():
            for name, text in FIELDS.items():
                yield name, code, job(**{name: text.format(character)})
            for name, text in OF_A_MODALITY.items():
                usual = {"modality": "behavior", "source": "/data"}
                modality = usual | {name: text.format(character)}
                yield f"modalities.0.{name}", code, job(modalities=[modality])

    def test_by_the_models(self):
        for place, code, request in self.requests():
            with self.subTest(place, code=code):
                with self.assertRaises(ValidationError) as raised:
                    BasicUploadJobConfigs.model_validate(request)
                [line] = explain(raised.exception)
                self.assertTrue(line.startswith(f"{place}: "), line)
                self.assertIn(f"({code}) at character 3" if "/a" not in line else code, line)

    def test_by_the_api(self):
        for place, code, request in self.requests():
            with self.subTest(place, code=code):
                _, [error] = parse_jobs([json.dumps(request)])
                self.assertTrue(error.startswith(f"job 1, {place}: "), error)
                self.assertIn(code, error)
                json.dumps([error]).encode()
                error.encode()

    def test_by_a_spreadsheet(self):
        for name, text in FIELDS.items():
            with self.subTest(name):
                [error] = read_csv([row(**{name: text.format("\u202e")})]).errors
                self.assertTrue(error.startswith(f"row 2, {name}: "), error)
                self.assertIn("U+202E", error)

    def test_within_a_json_object(self):
        for value, words in (
            ({"a": {"b": ["x", "y\u202e"]}}, r"\(U\+202E\) in a\.b\[1\] at character 2"),
            ({"a\x07": 1}, r"\(U\+0007\) in the name a\\x07 at character 2"),
            ('{"a": "\\ud800"}', r"half a character \(U\+D800\) in a at character 1"),
            ({"a": 2**63}, "a number beyond 64 bits in a"),
            ({"a": [-(2**80)]}, r"a number beyond 64 bits in a\[0\]"),
            ('{"a": 1e999}', "a number that is not finite in a"),
        ):
            modality = {"modality": "behavior", "source": "/data", "extra_configs": value}
            with self.subTest(words):
                _, [error] = parse_jobs([json.dumps(job(modalities=[modality]))])
                self.assertRegex(error, f"job 1, modalities.0.extra_configs: .*{words}")
        lines = {"script": "first\n\tsecond\r\n", "count": 2**62}
        modality = {"modality": "behavior", "source": "/data", "extra_configs": lines}
        [config], errors = parse_jobs([json.dumps(job(modalities=[modality]))])
        self.assertEqual((lines, []), (config.modalities[0].extra_configs, errors))

    def test_few_wrong_places_are_kept_and_long_names_are_cut(self):
        name = "\U000e0001" * 9_000
        value = {name: {"b": ["\x01"] * 3_600}}
        text = json.dumps(value, ensure_ascii=False)
        modality = {"modality": "behavior", "source": "/data", "extra_configs": text}
        texts = {
            "hpc_settings": lambda: self.error_of_read_object(text),
            "extra_configs": lambda: parse_jobs([json.dumps(job(modalities=[modality]))])[1][0],
        }
        for place, read in texts.items():
            with self.subTest(place):
                tracemalloc.start()
                self.addCleanup(tracemalloc.stop)
                error = read()
                _, peak = tracemalloc.get_traced_memory()
                self.assertLess(peak, 5 * 1024**2)
                self.assertIn("….b[0] at character 1, ", error)
                self.assertIn("….b[2] at character 1, and more; correct it", error)
                self.assertNotIn("b[3]", error)
                self.assertLess(len(error), 1_000)

    def error_of_read_object(self, text):
        """Read a JSON object that is refused; return why."""
        with self.assertRaises(ValueError) as raised:
            read_object(text)
        return str(raised.exception)

    def test_numbers_of_a_request_are_bounded(self):
        for number, words in ((-1, "below 0"), (10_000, "above 9,999"), (10**30, "9,999|whole")):
            modality = {"modality": "behavior", "source": "/data", "number": number}
            _, [error] = parse_jobs([json.dumps(job(modalities=[modality]))])
            self.assertRegex(error, f"job 1, modalities.0.number: .*({words})")

    def test_half_a_character_where_nobody_reads_it_is_still_refused(self):
        platform = {"abbreviation": "behavior", "other": "\ud800"}
        configs, [error] = parse_jobs([json.dumps(job(platform=platform))])
        self.assertEqual([], configs)
        self.assertIn("job 1", error)


class CutLists(unittest.TestCase):
    """Lists of which only the first entries are shown: one wording for what is left out."""

    def test_on_one_line(self):
        self.assertEqual("a; b", listed(["a", "b"], 2))
        self.assertEqual("a; b and 1 more", listed(["a", "b", "c"], 2))
        self.assertEqual("a and 1,200 more", listed(["a"] * 1201, 1, ", "))

    def test_a_line_each(self):
        self.assertEqual(["a", "b"], first_lines(["a", "b"], 2, "job", "jobs"))
        self.assertEqual(
            ["a", "1 more file without data"],
            first_lines(["a", "b"], 1, "file without data", "files without data"),
        )
        self.assertEqual(["a", "1,204 more jobs"], first_lines(["a"], 1, "job", "jobs", 1205))
        self.assertEqual(["2 more jobs"], first_lines([], 5, "job", "jobs", 2))


class Ends(unittest.TestCase):
    """Blanks and invisible characters around values are dropped, as programs add them."""

    AROUND = (
        "\u200b \u200c \u200d \u200e \u200f \u202a \u202c \u2060 \u00ad \ufeff \u00a0 \u2003".split(
            " "
        )
    )

    def test_of_the_fields_of_a_request(self):
        values = job(
            process_capsule_id="1f8f",
            s3_bucket="aind",
            metadata_dir="/data/a b",
            dry_run="TRUE",
            log_level="DEBUG",
        )
        usual, [] = parse_jobs([json.dumps(values)])
        for mark in self.AROUND:
            for around in ("{0}{1}", "{1}{0}", " {0}{0} {1} {0}"):
                changed = {
                    name: around.format(mark, value) if isinstance(value, str) else value
                    for name, value in values.items()
                }
                [modality] = changed["modalities"]
                changed["modalities"] = [
                    {name: around.format(mark, value) for name, value in modality.items()}
                ]
                with self.subTest(mark=f"{mark!a}", around=around):
                    found, errors = parse_jobs([json.dumps(changed)])
                    self.assertEqual([], errors)
                    self.assertEqual(usual, found)

    def test_of_the_cells_and_columns_of_a_spreadsheet(self):
        for mark in self.AROUND:
            for read in (read_csv, read_xlsx):
                table = [
                    {
                        f"{mark}{name}{mark}": f"{mark}{value or ''}{mark}"
                        for name, value in row().items()
                    }
                ]
                with self.subTest(mark=f"{mark!a}", read=read.__name__):
                    result = read([*table, dict.fromkeys(table[0], mark)])
                    self.assertEqual([], result.errors)
                    [found] = result.rows
                    self.assertEqual(read([row()]).rows[0].config, found.config)

    def test_a_value_of_nothing_else_is_empty(self):
        for mark in self.AROUND:
            request = job(project_name=mark * 3, metadata_dir=mark, s3_bucket=mark)
            _, [error] = parse_jobs([json.dumps(request)])
            self.assertEqual("job 1, project_name: empty; write a text", error)

    def test_blanks_within_a_name_are_blanks(self):
        for blank in ("\u00a0", "\u2003", "\u2009", "\u202f"):
            [found], _ = parse_jobs([json.dumps(job(project_name=f"Ephys{blank}Platform"))])
            self.assertEqual("Ephys Platform", found.project_name)

    def test_a_path_is_the_same_after_it_was_written_and_read(self):
        for text in ("/a/b /", "/a/b/ / ", "/a/b\u00a0/\u200b/", "/a/b//"):
            modality = {"modality": "behavior", "source": text}
            [found], _ = parse_jobs([json.dumps(job(modalities=[modality]))])
            self.assertEqual("/a/b", str(found.modalities[0].source))
            self.assertEqual([found], parse_jobs([found.model_dump_json()]).configs)


class Buckets(unittest.TestCase):
    """`ALLOWED_BUCKETS`."""

    def test_names_and_patterns(self):
        patterns = ("open", "lab-*", "rig-?", "x[12]y")
        for bucket in ("open", "lab-1", "lab-a.b", "rig-1", "x1y"):
            configs, errors = parse_jobs(
                [json.dumps(job(s3_bucket=bucket))], allowed_buckets=patterns
            )
            self.assertEqual((1, []), (len(configs), errors))
        for bucket in ("opens", "my-lab-1", "rig-12", "x3y", "lab"):
            _, [error] = parse_jobs([json.dumps(job(s3_bucket=bucket))], allowed_buckets=patterns)
            self.assertTrue(error.startswith(f'job 1, s3_bucket: "{bucket}" is not'), error)
            self.assertIn("choose one of lab-*, open, rig-?, x[12]y", error)

    def test_the_cell_of_a_spreadsheet_is_named(self):
        found = read_csv([row(s3_bucket="other")], allowed_buckets=("lab-*",))
        self.assertRegex(found.errors[0], '^row 2, s3_bucket: "other" is not a bucket')
        self.assertEqual([], read_csv([row(s3_bucket="other")]).errors)


if __name__ == "__main__":
    unittest.main()
