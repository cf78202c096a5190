"""The file of platforms and modalities is what the releases of the schema say."""

import subprocess
import unittest

from aind_data_transfer_service.configs.vocabulary_file import PATH
from tests.support import missing, vocabulary


class VocabularyFileTest(unittest.TestCase):
    """The file that the product ships."""

    def test_it_is_what_the_command_makes(self) -> None:
        try:
            made = vocabulary.content()
        except subprocess.CalledProcessError as error:
            raise missing(f"a package index for {' and '.join(vocabulary.RELEASES)}") from error
        self.assertEqual(made, PATH.read_text(encoding="utf-8"))

    def test_a_term_of_a_later_release_is_that_of_an_earlier_one_or_new(self) -> None:
        entries = vocabulary.merged(
            [
                [("ophys", "Planar optical physiology"), ("slap", "Scanned line projection")],
                [("pophys", "Planar Optical Physiology"), ("EM", "Electron microscopy")],
                [("pophys", "Planar optics"), ("em", "Electron microscopy"), ("slap2", "Other")],
            ]
        )
        self.assertEqual(
            [
                {
                    "abbreviation": "ophys",
                    "name": "Planar optical physiology",
                    "synonyms": ["pophys", "Planar Optical Physiology", "Planar optics"],
                },
                {
                    "abbreviation": "slap",
                    "name": "Scanned line projection",
                    "synonyms": ["slap2", "Other"],
                },
                {"abbreviation": "EM", "name": "Electron microscopy", "synonyms": ["em"]},
            ],
            entries,
        )
