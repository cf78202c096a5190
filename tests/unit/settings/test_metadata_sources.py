"""What has to be known of SharePoint, TARS and SLIMS."""

import os
import unittest
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aind_data_transfer_service.settings.base import explain_settings
from aind_data_transfer_service.settings.metadata_sources import (
    SharePointSettings,
    SlimsSettings,
    TarsSettings,
)

SECRET = "hunter2"
ENTRA = {"ENTRA_TENANT": "lab.example.org", "CLIENT_ID": "b7e1", "CLIENT_SECRET": SECRET}
COMPLETE = {
    SharePointSettings: {"SITE": "lab.sharepoint.com:/sites/NSB", "LIST_2023": "New"} | ENTRA,
    TarsSettings: {"RESOURCE": "https://tars.example.org", "SCOPE": "api://t/.default"} | ENTRA,
    SlimsSettings: {"HOST": "https://slims.example.org", "USERNAME": "u", "PASSWORD": SECRET},
}
"""All that each of them needs, without the prefix."""


def variable_of(system: type, name: str) -> str:
    """Return the variable of a setting, which two systems share or one has alone."""
    return name if name in system.variables().values() else f"{system.prefix}{name}"


def read(system: type, variables: dict[str, str]) -> object:
    """Read settings from exactly these variables."""
    named = {variable_of(system, name): value for name, value in variables.items()}
    with mock.patch.dict(os.environ, named, clear=True):
        return system()


class Systems(unittest.TestCase):
    """Each of the three alike."""

    def refused(self, system: type, variables: dict[str, str]) -> str:
        """Have variables refused, and give the one line that says why."""
        with self.assertRaises(ValidationError) as caught:
            read(system, variables)
        self.assertNotIn(SECRET, str(caught.exception))
        [line] = explain_settings(caught.exception)
        return line

    def test_nothing_said_is_no_error(self) -> None:
        for system, variables in COMPLETE.items():
            with self.subTest(system.__name__):
                self.assertFalse(read(system, {}).is_set)
                self.assertFalse(read(system, dict.fromkeys(variables, "")).is_set)

    def test_all_of_it_is_taken_and_no_secret_shown(self) -> None:
        for system, variables in COMPLETE.items():
            with self.subTest(system.__name__):
                found = read(system, variables)
                self.assertTrue(found.is_set)
                self.assertNotIn(SECRET, f"{found!r} {found} {found.model_dump()}")

    def test_a_part_of_it_is_refused_with_all_that_is_missing(self) -> None:
        for system, variables in COMPLETE.items():
            for name in variables.keys() - {"ENTRA_TENANT"}:
                with self.subTest(system.__name__, only=name):
                    line = self.refused(system, {name: variables[name]})
                    for other in variables.keys() - {name}:
                        self.assertIn(variable_of(system, other), line)

    def test_what_several_systems_share_configures_none(self) -> None:
        for system in COMPLETE:
            shared = {"ENTRA_TENANT": "lab.example.org", "CA_FILE": "/lab.pem"}
            with mock.patch.dict(os.environ, shared, clear=True):
                found = system()
            self.assertFalse(found.is_set)
            self.assertEqual("/lab.pem", str(found.ca_file))

    def test_further_lists_are_named_with_their_layouts(self) -> None:
        complete = COMPLETE[SharePointSettings] | {"LIST_2023": ""}
        lists = '{"SWR 2023-Present": "2023", "Old": 2019}'
        found = read(SharePointSettings, complete | {"LISTS": lists})
        self.assertEqual({"SWR 2023-Present": "2023", "Old": "2019"}, found.lists)
        for wrong, words in (
            ("[]", "is not a JSON object"),
            ("{", "is not valid JSON"),
            ('{"Old": "2020"}', '"Old": "2020" is not a layout'),
            ('{" ": "2019"}', "empty name"),
            ('{"a": "2019", "a": "2023"}', '"a" is there twice'),
        ):
            with self.subTest(wrong):
                self.assertIn(words, self.refused(SharePointSettings, complete | {"LISTS": wrong}))

    def test_a_site_without_a_list_is_refused_and_one_list_is_enough(self) -> None:
        variables = dict(COMPLETE[SharePointSettings])
        del variables["LIST_2023"]
        self.assertIn("SHAREPOINT_LIST_2019", self.refused(SharePointSettings, variables))
        self.assertTrue(read(SharePointSettings, variables | {"LIST_2019": "Old"}).is_set)

    def test_addresses_to_which_a_secret_cannot_go_are_refused(self) -> None:
        for address, words in (
            ("http://slims.example.org", "not encrypted"),
            ("https://me:hunter2@slims.example.org", "without a name or password"),
            ("https://slims.example.org/?a=b", "leave out"),
            ("slims", "no web address"),
        ):
            with self.subTest(address):
                line = self.refused(SlimsSettings, COMPLETE[SlimsSettings] | {"HOST": address})
                self.assertRegex(line, f"^SLIMS_HOST: .*{words}")

    @settings(deadline=None)
    @given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0")))
    def test_no_address_is_taken_that_is_not_encrypted(self, address: str) -> None:
        try:
            found = read(SlimsSettings, COMPLETE[SlimsSettings] | {"HOST": address})
        except ValidationError:
            return
        self.assertTrue(found.host.startswith("https://"))
