"""Fields that clients of earlier releases send."""

import enum
import json
import unittest

from pydantic import ValidationError

from aind_data_transfer_service.configs.error_messages import explain
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.configs.job_requests import parse_jobs
from tests.unit.configs.builders import job, read_csv, row

EMPTY = {
    "aws_param_store_name": None,
    "behavior_dir": None,
    "codeocean_domain": None,
    "codeocean_api_token": None,
    "codeocean_process_capsule_id": None,
    "codeocean_trigger_capsule_id": None,
    "codeocean_trigger_capsule_version": None,
    "metadata_service_domain": None,
    "aind_data_transfer_repo_location": None,
    "process_name": "Other",
    "temp_directory": None,
    "video_encryption_password": None,
}
"""As such clients send them in every request."""


class Process(enum.Enum):
    """The steps as such clients name them."""

    OTHER = "Other"
    COMPRESSION = "Compression"


def problems_of(**fields) -> list[str]:
    """Return what is wrong with a job that has these fields as well."""
    return parse_jobs([json.dumps(job(**fields))]).errors


class FormerFieldsTest(unittest.TestCase):
    """They are accepted, warned of, or refused by what they say."""

    def read(self, **fields) -> BasicUploadJobConfigs:
        """Read a job that has these fields as well, from JSON and from Python."""
        config = BasicUploadJobConfigs.model_validate_json(json.dumps(job(**fields)))
        self.assertEqual(config, BasicUploadJobConfigs(**job(**fields)))
        return config

    def test_fields_that_say_nothing_are_accepted_and_not_written(self):
        config = self.read(**EMPTY)
        self.assertEqual((), config.warnings)
        self.assertEqual(BasicUploadJobConfigs(**job()), config)
        self.assertEqual(set(), EMPTY.keys() & json.loads(config.model_dump_json()).keys())
        blank = dict.fromkeys(EMPTY, " ") | {"process_name": "other"}
        self.assertEqual((), self.read(**blank).warnings)
        self.assertEqual((), self.read(process_name=None).warnings)
        self.assertEqual((), BasicUploadJobConfigs(**job(process_name=Process.OTHER)).warnings)

    def test_values_without_effect_are_accepted_with_a_warning(self):
        config = self.read(temp_directory="/scratch", process_name="Compression")
        self.assertEqual(
            (
                'process_name: "Compression" has no effect; processing.json names the steps of '
                "each upload",
                'temp_directory: "/scratch" has no effect; data are sent from their source and not '
                "staged",
            ),
            config.warnings,
        )
        named = BasicUploadJobConfigs(**job(process_name=Process.COMPRESSION))
        self.assertIn('process_name: "Compression" has no effect', named.warnings[0])

    def test_the_data_of_behavior_dir_are_uploaded(self):
        config = self.read(behavior_dir="/shared_drive/690165/Rig")
        self.assertEqual(
            ["/shared_drive/690165/Behavior", "/shared_drive/690165/Rig"],
            [str(one.source) for one in config.modalities],
        )
        self.assertEqual("behavior1", config.modalities[1].default_output_folder_name)
        self.assertIn('behavior_dir: "/shared_drive/690165/Rig" is uploaded', config.warnings[0])

    def test_a_folder_that_is_a_behavior_modality_already_is_uploaded_once(self):
        folder = "/shared_drive/690165/Behavior"
        for written in (
            *(folder, f"{folder}/", f" {folder} ", f"{folder}//", "/shared_drive//690165/Behavior"),
            *("/shared_drive/./690165/Behavior/.", f"{folder}\u200b"),
        ):
            for listed in (folder, f"{folder}/", f"{folder}/."):
                with self.subTest(written, listed=listed):
                    modalities = [{"modality": "Behavior", "source": listed}]
                    config = self.read(behavior_dir=written, modalities=modalities)
                    self.assertEqual([folder], [str(one.source) for one in config.modalities])
                    self.assertEqual(
                        (
                            f'behavior_dir: "{folder}" is a behavior modality already; leave '
                            "behavior_dir out",
                        ),
                        config.warnings,
                    )

    def test_a_folder_that_is_another_modality_is_uploaded_as_both(self):
        folder = "/shared_drive/690165/Behavior"
        config = self.read(
            behavior_dir=f"{folder}/", modalities=[{"modality": "ecephys", "source": folder}]
        )
        self.assertEqual(
            [("ecephys", folder), ("behavior", folder)],
            [(one.default_output_folder_name, str(one.source)) for one in config.modalities],
        )
        self.assertEqual(
            (
                f'behavior_dir: "{folder}" is uploaded as a modality (behavior); list it in '
                "modalities instead",
                f'behavior_dir: "{folder}" is the source of ecephys too; its files are sent twice',
            ),
            config.warnings,
        )

    def test_a_folder_inside_of_a_modality_or_around_it_is_warned_of(self):
        for behavior_dir, words in (
            ("/shared_drive/690165/Behavior/rig/", "is inside of .*, the source of behavior; its"),
            ("/shared_drive/690165", "contains .*/Behavior.*, the source of behavior, whose"),
        ):
            config = self.read(behavior_dir=behavior_dir)
            self.assertEqual(2, len(config.modalities))
            self.assertRegex(config.warnings[1], f"^behavior_dir: .* {words} files are sent twice$")
        config = self.read(behavior_dir="/shared_drive/690165/Behavior2")
        self.assertEqual(1, len(config.warnings))

    def test_a_job_with_behavior_dir_is_written_with_its_modalities(self):
        config = self.read(behavior_dir="/rig/690165/", modalities=job()["modalities"] * 2)
        text = config.model_dump_json()
        self.assertNotIn("behavior_dir", text)
        again = BasicUploadJobConfigs.model_validate_json(text)
        self.assertEqual(config.model_dump(), again.model_dump())
        self.assertEqual("behavior2", again.modalities[2].default_output_folder_name)
        self.assertEqual((), again.warnings)

    def test_behavior_dir_is_refused_under_its_own_name(self):
        [error] = problems_of(behavior_dir="Rig")
        self.assertRegex(error, '^job 1, behavior_dir: "Rig" does not begin with /')
        [error] = problems_of(behavior_dir=5, modalities=job()["modalities"] * 2)
        self.assertRegex(error, "^job 1, behavior_dir: ")
        [error] = problems_of(behavior_dir="/rig", modalities=5)
        self.assertIn("job 1, modalities: ", error)
        errors = problems_of(behavior_dir="Rig", modalities=[{"modality": "x", "source": "y"}])
        self.assertEqual(
            ["job 1, behavior_dir", "job 1, modalities.0.modality", "job 1, modalities.0.source"],
            [error.partition(": ")[0] for error in errors],
        )

    def test_a_network_name_in_behavior_dir_is_read_like_those_of_modalities(self):
        modalities = [{"modality": "behavior", "source": "/vast/share/rig"}]
        for name, count in (("rig", 1), ("rig2", 2)):
            written, warnings = f"//server/share/{name}/", []
            found = parse_jobs(
                [json.dumps(job(behavior_dir=written, modalities=modalities))],
                path_mappings={"//server/share": "/vast/share"},
                warn=lambda number, text: warnings.append(text),
            )
            [config] = found.configs
            self.assertEqual(count, len(config.modalities))
            self.assertEqual(f"/vast/share/{name}", str(config.modalities[-1].source))
            self.assertRegex(
                warnings[0], f"^job 1, behavior_dir: .* was read as /vast/share/{name}$"
            )
        found = read_csv([row(behavior_dir="//server/share/rig")], path_mappings={})
        self.assertIn("row 2, behavior_dir: ", " ".join(found.warnings))

    def test_behavior_dir_replaces_no_modality(self):
        [error] = problems_of(behavior_dir="/rig", modalities=[])
        self.assertRegex(error, "^job 1, modalities: empty")
        found = read_csv([row(behavior_dir="/rig", modality0="", modality0__source="")])
        [error] = found.errors
        self.assertRegex(error, "^row 2, modality0: empty")

    def test_the_former_name_of_the_capsule_is_read(self):
        for other in (None, " ", "1234", " 1234 "):
            config = self.read(codeocean_process_capsule_id="1234", process_capsule_id=other)
            self.assertEqual("1234", config.process_capsule_id)
            self.assertEqual(
                (
                    "codeocean_process_capsule_id: is read as process_capsule_id; write that name "
                    "instead",
                ),
                config.warnings,
            )
        config = self.read(codeocean_process_capsule_id=None, process_capsule_id="1234")
        self.assertEqual(("1234", ()), (config.process_capsule_id, config.warnings))
        [error] = problems_of(codeocean_process_capsule_id="1234", process_capsule_id="5678")
        self.assertRegex(error, "^job 1, codeocean_process_capsule_id: names another capsule than")

    def test_a_replaced_field_names_its_successor(self):
        for name, successor in (
            ("experiment_type", "platform"),
            ("acq_date", "acq_datetime"),
            ("acq_time", "acq_datetime"),
        ):
            for value in ("x", None):
                [error] = problems_of(**{name: value})
                self.assertRegex(error, f"^job 1, {name}: is a field of .*write .* {successor}$")
            [error] = read_csv([row(**{name: "x"})]).errors
            self.assertRegex(error, f'^row 1, column [A-Z]+: "{name}" is a .* {successor}$')

    def test_what_would_steer_the_service_is_refused_without_its_value(self):
        for name, setting in (
            ("aws_param_store_name", "AWS_PARAM_STORE_NAME"),
            ("metadata_service_domain", "METADATA_SERVICE_URL"),
            ("codeocean_domain", "CODEOCEAN_DOMAIN"),
            ("codeocean_api_token", "CODEOCEAN_TOKEN"),
            ("aind_data_transfer_repo_location", "HPC_SIF_LOCATION"),
            ("video_encryption_password", "not encrypted"),
        ):
            for value in ("hunter2", 7, False, ["hunter2"], {}):
                with self.subTest(name, value=value):
                    [error] = problems_of(**{name: value})
                    self.assertRegex(error, f"^job 1, {name}: .*{setting}.*; leave it out$")
                    self.assertNotIn("hunter2", error)

    def test_other_unknown_fields_are_refused_with_the_nearest_name_even_if_null(self):
        for value in (None, "x"):
            errors = problems_of(metadata_dri=value, malformed_key=value, temp_dir=value)
            self.assertEqual(
                [
                    'job 1, metadata_dri: unknown field "metadata_dri"; did you mean '
                    '"metadata_dir"?',
                    'job 1, malformed_key: unknown field "malformed_key"',
                    'job 1, temp_dir: unknown field "temp_dir"',
                ],
                errors,
            )

    def test_all_problems_of_a_job_are_listed_at_once(self):
        errors = problems_of(codeocean_domain="x", platform="behaviour", subject_id="")
        self.assertEqual(3, len(errors), errors)

    def test_what_is_no_object_is_refused(self):
        for value in (5, [], "x"):
            with self.assertRaises(ValidationError) as caught:
                BasicUploadJobConfigs.model_validate(value)
            self.assertIn("no object", explain(caught.exception)[0])


class FormerColumnsTest(unittest.TestCase):
    """Spreadsheets of earlier releases have columns of such fields."""

    def test_empty_columns_are_accepted(self):
        found = read_csv([row(**(dict.fromkeys(EMPTY, "") | {"process_name": "Other"}))])
        self.assertEqual(([], []), (found.errors, found.warnings))

    def test_values_are_warned_of_or_refused_with_their_row(self):
        found = read_csv(
            [row(temp_directory="/scratch"), row(subject_id="2", process_name="Other")]
        )
        self.assertEqual(2, len(found.rows))
        self.assertIn('row 2, temp_directory: "/scratch" has no effect', found.warnings[0])
        found = read_csv([row(aws_param_store_name="/p", behavior_dir="rig")])
        self.assertEqual(
            ["row 2, aws_param_store_name", "row 2, behavior_dir"],
            sorted(error.partition(": ")[0] for error in found.errors),
        )

    def test_behavior_dir_is_uploaded(self):
        [found] = read_csv([row(behavior_dir="/shared_drive/rig")]).rows
        self.assertEqual("/shared_drive/rig", str(found.config.modalities[1].source))


if __name__ == "__main__":
    unittest.main()
