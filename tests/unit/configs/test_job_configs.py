"""The models of a job: what they take, what they refuse, what they write."""

import json
import subprocess
import sys
import unittest
import unittest.mock
from datetime import UTC, datetime, timedelta, timezone
from pathlib import PurePosixPath
from zoneinfo import ZoneInfo

from aind_data_schema.models.modalities import Modality
from aind_data_schema.models.platforms import Platform
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs, ModalityConfigs
from aind_data_transfer_service.configs.vocabulary import MODALITIES, PLATFORMS
from tests.support import slow
from tests.unit.configs.builders import job

FOLDER = "/shared_drive/690165/Behavior"


def refusals(model, **fields):
    """Give what a model says of fields, by place."""
    try:
        model(**fields)
    except ValidationError as error:
        return {".".join(map(str, d["loc"])): d["msg"] for d in error.errors()}
    return {}


class SampleScriptTest(unittest.TestCase):
    """The documented script builds its request from objects of aind-data-schema."""

    def setUp(self):
        source_dir = PurePosixPath("/shared_drive/vr_foraging/690165/20240219T112517")
        self.configs = BasicUploadJobConfigs(
            processor_full_name="Anna Apple",
            project_name="Ephys Platform",
            s3_bucket="select_a_bucket",
            platform=Platform.BEHAVIOR,
            subject_id="690165",
            acq_datetime=datetime(2024, 2, 19, 11, 25, 17),
            modalities=[
                ModalityConfigs(modality=Modality.BEHAVIOR, source=(source_dir / "Behavior")),
                ModalityConfigs(
                    modality=Modality.BEHAVIOR_VIDEOS, source=(source_dir / "Behavior videos")
                ),
            ],
            metadata_dir=source_dir / "Config",
        )

    def test_the_asset_s_name(self):
        self.assertEqual(self.configs.s3_prefix, "behavior_690165_2024-02-19_11-25-17")

    def test_the_json_says_everything(self):
        written = json.loads(self.configs.model_dump_json())
        self.assertEqual(written["s3_bucket"], "select_a_bucket")
        self.assertEqual(written["acq_datetime"], "2024-02-19T11:25:17")
        self.assertEqual(
            written["platform"], {"name": "Behavior platform", "abbreviation": "behavior"}
        )
        self.assertEqual(
            written["modalities"][1],
            {
                "modality": {"name": "Behavior videos", "abbreviation": "behavior-videos"},
                "source": "/shared_drive/vr_foraging/690165/20240219T112517/Behavior videos",
                "compress_raw_data": False,
                "extra_configs": None,
                "skip_staging": False,
                "number": 0,
            },
        )

    def test_the_json_comes_back_as_the_same_job(self):
        text = self.configs.model_dump_json()
        self.assertEqual(BasicUploadJobConfigs.model_validate_json(text), self.configs)
        self.assertEqual(BasicUploadJobConfigs.model_validate(json.loads(text)), self.configs)
        self.assertEqual(
            BasicUploadJobConfigs.model_validate(self.configs.model_dump()), self.configs
        )

    def test_jobs_are_frozen(self):
        with self.assertRaises(ValidationError):
            self.configs.subject_id = "1"


class ImportTest(unittest.TestCase):
    """A client script imports the models alone."""

    @slow
    def test_importing_the_models_takes_no_server_and_no_spreadsheet_library(self):
        code = (
            "import sys, aind_data_transfer_service.MODULE as m\n"
            "heavy = {'fastapi', 'starlette', 'sqlalchemy', 'awscrt', 'openpyxl', "
            "'python_calamine', 'boto3', 'asyncio', 'aind_data_schema'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        for name in (
            "configs.job_configs",
            "configs.job_requests",
            "spreadsheets.reader",
            "spreadsheets.template",
        ):
            run = subprocess.run(
                [sys.executable, "-c", code.replace("MODULE", name)],
                capture_output=True,
                text=True,
                check=True,
            )
            self.assertEqual(run.stdout, "[]\n", name)


class ModalityConfigsTest(unittest.TestCase):
    """One folder of one kind of data."""

    def test_ephys_is_compressed_unless_told_otherwise_and_others_are_not(self):
        for modality, asked, expected in (
            ("ecephys", {}, True),
            ("ecephys", {"compress_raw_data": None}, True),
            ("ecephys", {"compress_raw_data": " "}, True),
            ("ecephys", {"compress_raw_data": False}, False),
            ("behavior", {}, False),
            ("behavior", {"compress_raw_data": "yes"}, True),
        ):
            with self.subTest(modality=modality, asked=asked):
                config = ModalityConfigs(modality=modality, source=FOLDER, **asked)
                self.assertIs(config.compress_raw_data, expected)

    def test_the_second_of_a_kind_gets_a_number_and_a_folder_of_its_own(self):
        kinds = ["behavior", "ecephys", "behavior", "behavior", "fMOST"]
        modalities = [{"modality": kind, "source": FOLDER, "number": 7} for kind in kinds]
        configs = BasicUploadJobConfigs(**job(modalities=modalities))
        self.assertEqual([m.number for m in configs.modalities], [0, 0, 1, 2, 0])
        self.assertEqual(
            [m.default_output_folder_name for m in configs.modalities],
            ["behavior", "ecephys", "behavior1", "behavior2", "fMOST"],
        )

    def test_numbering_leaves_the_client_s_own_objects_alone(self):
        config = ModalityConfigs(modality="behavior", source=FOLDER)
        configs = BasicUploadJobConfigs(**job(modalities=[config, config]))
        self.assertEqual([m.number for m in configs.modalities], [0, 1])
        self.assertEqual(config.number, 0)

    def test_extra_configs_are_an_object_its_text_or_the_path_of_a_file(self):
        for given_, expected in (
            ({"a": [1, 2.5, None, {"ä": True}]}, {"a": [1, 2.5, None, {"ä": True}]}),
            (' {"a": 1}', {"a": 1}),
            ("/data/extra.json ", "/data/extra.json"),
            (PurePosixPath("/data/extra.json"), "/data/extra.json"),
            ("  ", None),
            (None, None),
            ({1: (2, 3)}, {"1": [2, 3]}),
        ):
            with self.subTest(given=given_):
                config = ModalityConfigs(modality="fib", source=FOLDER, extra_configs=given_)
                self.assertEqual(config.extra_configs, expected)
                again = ModalityConfigs.model_validate_json(config.model_dump_json())
                self.assertEqual(again, config)

    def test_extra_configs_that_json_cannot_carry_are_refused(self):
        deep = {}
        for _ in range(60):
            deep = {"a": deep}
        endless = {}
        endless["a"] = endless
        for given_, reason in (
            ({"a": float("nan")}, "cannot be written as JSON"),
            ({"a": {1, 2}}, "cannot be written as JSON"),
            (endless, "cannot be written as JSON"),
            (deep, "nested deeper than 50 levels"),
            ('{"a": Infinity}', "Infinity is not a JSON number"),
            ("[1]", "is no JSON object"),
            ('{"a": ', "is no valid JSON object"),
            ({"a": "\ud800"}, "half a character"),
            ("extra.json", "does not begin with /.* or write a JSON object"),
            (5, "is no path"),
        ):
            with self.subTest(given=str(given_)[:40]):
                found = refusals(
                    ModalityConfigs, modality="fib", source=FOLDER, extra_configs=given_
                )
                self.assertRegex(found["extra_configs"], reason)


class JobFieldsTest(unittest.TestCase):
    """The rules for the fields of a job."""

    def test_subject_ids(self):
        for given_, expected in (
            ("690165", "690165"),
            (690165, "690165"),
            (690165.0, "690165"),
            ("690165.0", "690165"),
            (" 00123 ", "00123"),
            ("A-12.b", "A-12.b"),
        ):
            with self.subTest(given=given_):
                configs = BasicUploadJobConfigs(**job(subject_id=given_))
                self.assertEqual(configs.subject_id, expected)

    def test_numbers_and_truth_values_of_spreadsheets_are_no_subjects(self):
        for given_ in ("1.20E-02", "6.90E10", "6.e5", "1,5E3", "5E+10"):
            with self.subTest(given=given_):
                found = refusals(BasicUploadJobConfigs, **job(subject_id=given_))
                self.assertIn("took it for a number", found["subject_id"])
        for given_ in ("TRUE", "False", " true "):
            with self.subTest(given=given_):
                found = refusals(BasicUploadJobConfigs, **job(subject_id=given_))
                self.assertIn("is a check box or a truth value", found["subject_id"])
        for given_ in ("5E10", "5E-10", "E5", "1.2.E5", "1.5EX", "true-1"):
            with self.subTest(given=given_):
                config = BasicUploadJobConfigs(**job(subject_id=given_))
                self.assertEqual(given_, config.subject_id)

    def test_texts_that_stand_for_no_value(self):
        fields = ("processor_full_name", "project_name", "process_capsule_id", "s3_bucket")
        for name in (*fields, "subject_id"):
            for given_, reason in (
                *((word, "is not a value; leave it empty") for word in ("<NA>", "NaT", " nan")),
                *((word, "is not a value; leave it empty") for word in ("null", "None", "-")),
                ("#N/A", "is an error such as"),
                ("#NAME?", "is an error such as"),
                ("#####", "the column was too narrow"),
                ("=A2", "is a formula that was saved as text"),
            ):
                with self.subTest(name, given=given_):
                    found = refusals(BasicUploadJobConfigs, **job(**{name: given_}))
                    self.assertIn(reason, found[name])

    def test_null_is_no_settings(self):
        def modality(given):
            return ModalityConfigs(modality="fib", source=FOLDER, extra_configs=given)

        for given_ in (None, "null", " null\n", ""):
            with self.subTest(given=given_):
                self.assertIsNone(modality(given_).extra_configs)
        for given_ in ("NULL", "nan", "<NA>"):
            with self.subTest(given=given_):
                given = {"modality": "fib", "source": FOLDER, "extra_configs": given_}
                found = refusals(ModalityConfigs, **given)
                self.assertIn("is not a value", found["extra_configs"])

    def test_subject_ids_that_cannot_be_part_of_an_asset_s_name_are_refused(self):
        for given_ in ("a_b", "a/b", "..", "a b", "é", "", " ", "6.9E+05", "x" * 65, "-a", "a."):
            with self.subTest(given=given_):
                found = refusals(BasicUploadJobConfigs, **job(subject_id=given_))
                self.assertRegex(found["subject_id"], "is no subject id; write|empty; write")
        for given_ in (True, 1.5, -3, None, 1e20, []):
            with self.subTest(given=given_):
                self.assertIn(
                    "subject_id", refusals(BasicUploadJobConfigs, **job(subject_id=given_))
                )

    def test_paths_are_absolute_and_posix(self):
        for given_, reason in (
            ("Behavior", "does not begin with /"),
            ("~/Behavior", "does not begin with /"),
            ("s3://bucket/data", "is an address and no path"),
            ("/data/../etc", r"holds \.\."),
            ("/", "is the root"),
            ("/./", "is the root"),
            ("/a\nb", "holds a line break"),
            ("/a\0b", "holds a line break or control character .U.0000"),
            ("/a\ud800", "half a character"),
            ("", "empty; write the path"),
            ("/" + "x" * 4096, "longer than 4096 bytes"),
            ("/" + "é" * 2048, "longer than 4096 bytes"),
            (5, "is no path"),
        ):
            with self.subTest(given=given_):
                found = refusals(ModalityConfigs, modality="fib", source=given_)
                self.assertRegex(found["source"], reason)

    def test_odd_paths_that_exist_are_taken(self):
        for given_, expected in (
            (" /data/Behavior videos/ ", "/data/Behavior videos"),
            ('/data/it\'s "é" 日本', '/data/it\'s "é" 日本'),
            ("/data/..hidden/a..b/...", "/data/..hidden/a..b/..."),
            ("/...", "/..."),
            ("/data\u00a0set", "/data\u00a0set"),
            ("/" + "/".join(["x" * 99] * 10), "/" + "/".join(["x" * 99] * 10)),
        ):
            with self.subTest(given=given_):
                config = ModalityConfigs(modality="fib", source=given_)
                self.assertEqual(config.source, PurePosixPath(expected))

    def test_a_blank_optional_field_is_none_at_all(self):
        blank = {"metadata_dir": "", "process_capsule_id": " ", "s3_bucket": ""}
        configs = BasicUploadJobConfigs(**job(**blank))
        self.assertEqual(
            (configs.metadata_dir, configs.process_capsule_id, configs.s3_bucket), (None,) * 3
        )

    def test_buckets(self):
        for given_ in ("select_a_bucket", "aind-open-data", "a.b.c", "123"):
            self.assertEqual(BasicUploadJobConfigs(**job(s3_bucket=given_)).s3_bucket, given_)
        for given_ in (
            "s3://a-bucket",
            "a/b",
            "a..b",
            "..",
            "ab",
            "Bucket",
            ".transfer",
            5,
            "x" * 64,
        ):
            with self.subTest(given=given_):
                found = refusals(BasicUploadJobConfigs, **job(s3_bucket=given_))
                self.assertIn("is no name of a bucket; write", found["s3_bucket"])
        arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/mine"
        found = refusals(BasicUploadJobConfigs, **job(s3_bucket=arn))
        self.assertIn("name the access point by its alias", found["s3_bucket"])

    def test_texts_stand_on_one_line(self):
        configs = BasicUploadJobConfigs(**job(processor_full_name=" Zoë\u00a0O'Brien "))
        self.assertEqual(configs.processor_full_name, "Zoë O'Brien")
        for given_, reason in (
            ("a\nb", "line break"),
            ("a\x7fb", "control character"),
            ("\ud800", "half a character"),
            ("", "empty; write a text"),
            ("x" * 257, "257 characters long; write at most 256"),
            (5, "is no text"),
            (None, "is no text"),
        ):
            with self.subTest(given=given_):
                found = refusals(BasicUploadJobConfigs, **job(project_name=given_))
                self.assertRegex(found["project_name"], reason)

    def test_yes_and_no_as_people_and_programs_write_them(self):
        for given_, expected in (
            ("TRUE", True),
            ("yes", True),
            (" Y ", True),
            ("1", True),
            (1.0, True),
            (True, True),
            ("False", False),
            ("no", False),
            (0, False),
        ):
            with self.subTest(given=given_):
                self.assertIs(BasicUploadJobConfigs(**job(dry_run=given_)).dry_run, expected)
        for given_ in ("maybe", 2, None, "", []):
            with self.subTest(given=given_):
                found = refusals(BasicUploadJobConfigs, **job(dry_run=given_))
                self.assertIn("is neither yes nor no; write TRUE or FALSE", found["dry_run"])

    def test_log_levels(self):
        self.assertEqual(BasicUploadJobConfigs(**job(log_level=" debug")).log_level, "DEBUG")
        found = refusals(BasicUploadJobConfigs, **job(log_level="WARN"))
        self.assertIn('did you mean "WARNING"? Known are DEBUG, INFO', found["log_level"])
        self.assertIn("log_level", refusals(BasicUploadJobConfigs, **job(log_level=3)))

    def test_an_unknown_field_is_refused_with_the_nearest_name(self):
        found = refusals(
            BasicUploadJobConfigs,
            **job(platfrom="x", modalities=[{"modality": "fib", "source": FOLDER, "sorce": 1}]),
        )
        self.assertEqual(
            found,
            {
                "platfrom": 'unknown field "platfrom"; did you mean "platform"?',
                "modalities.0.sorce": 'unknown field "sorce"; did you mean "source"?',
            },
        )

    def test_all_errors_are_told_at_once_and_in_plain_words(self):
        found = refusals(BasicUploadJobConfigs, modalities=[{"modality": "ecefys"}, 3], dry_run="x")
        self.assertEqual(
            list(found),
            ["processor_full_name", "project_name", "platform", "modalities.0.modality"]
            + ["modalities.0.source", "modalities.1", "subject_id", "acq_datetime", "dry_run"],
        )
        self.assertNotIn("Input should", " ".join(found.values()))

    def test_a_job_needs_a_modality(self):
        self.assertIn(
            "name at least one", refusals(BasicUploadJobConfigs, **job(modalities=[]))["modalities"]
        )
        self.assertIn(
            "is no list", refusals(BasicUploadJobConfigs, **job(modalities={}))["modalities"]
        )

    def test_the_environment_fills_in_nothing(self):
        environment = {"SUBJECT_ID": "1", "S3_BUCKET": "from-the-environment"}
        with unittest.mock.patch.dict("os.environ", environment):
            fields = job()
            del fields["subject_id"]
            self.assertIn("missing", refusals(BasicUploadJobConfigs, **fields)["subject_id"])
            self.assertIsNone(BasicUploadJobConfigs(**job()).s3_bucket)


class ContextTest(unittest.TestCase):
    """The service hands its zone and date order to the models."""

    def test_the_service_turns_any_time_into_the_lab_s(self):
        context = {"lab_timezone": ZoneInfo("America/Los_Angeles"), "date_order": "DMY"}
        for text in ("2024-02-19T19:25:17Z", "19/2/2024 11:25:17", "2024-02-19T11:25:17"):
            configs = BasicUploadJobConfigs.model_validate_json(
                json.dumps(job(acq_datetime=text)), context=context
            )
            self.assertEqual(configs.acq_datetime, datetime(2024, 2, 19, 11, 25, 17))

    def test_a_client_keeps_the_offset_and_the_json_carries_it(self):
        moment = datetime(2024, 2, 19, 11, 25, 17, 5, tzinfo=timezone(timedelta(hours=-8)))
        configs = BasicUploadJobConfigs(**job(acq_datetime=moment))
        again = BasicUploadJobConfigs.model_validate_json(configs.model_dump_json())
        self.assertEqual(again.acq_datetime, moment)
        self.assertEqual(again.acq_datetime.utcoffset(), timedelta(hours=-8))


PATHS = st.lists(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/"),
        min_size=1,
        max_size=20,
    ),
    min_size=1,
    max_size=5,
).map(lambda names: "/" + "/".join(names))


class RoundTripTest(unittest.TestCase):
    """Whatever a model takes, its JSON gives back."""

    @given(
        st.builds(
            job,
            platform=st.sampled_from(PLATFORMS),
            acq_datetime=st.datetimes(
                datetime(1980, 1, 2), datetime(2099, 12, 30), timezones=st.sampled_from([None, UTC])
            ),
            subject_id=st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True),
            modalities=st.lists(
                st.fixed_dictionaries(
                    {
                        "modality": st.sampled_from(MODALITIES),
                        "source": PATHS,
                        "extra_configs": st.dictionaries(st.text(max_size=5), st.integers()),
                        "compress_raw_data": st.sampled_from([None, True, False]),
                    }
                ),
                min_size=1,
                max_size=4,
            ),
        )
    )
    def test_json_there_and_back_is_exact(self, fields):
        try:
            configs = BasicUploadJobConfigs(**fields)
        except ValidationError as error:
            for details in error.errors():
                self.assertIn(details["loc"][-1], ("source", "extra_configs"))
            return
        text = configs.model_dump_json()
        again = BasicUploadJobConfigs.model_validate_json(text)
        self.assertEqual(again, configs)
        self.assertEqual(again.model_dump_json(), text)

    def test_the_json_schema_describes_what_is_taken(self):
        schema = BasicUploadJobConfigs.model_json_schema()
        self.assertEqual(
            ["processor_full_name", "project_name", "platform", "modalities", "subject_id"]
            + ["acq_datetime"],
            schema["required"],
        )
        self.assertNotIn("default", schema["properties"]["processor_full_name"])
        self.assertNotIn("behavior_dir", schema["properties"])
        self.assertIn("behavior", str(schema["properties"]["platform"]))
