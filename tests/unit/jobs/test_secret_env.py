"""Variables that users give their jobs."""

import json
import unittest

from aind_data_transfer_service.jobs.secret_env import variable_errors, without_values


class VariablesTest(unittest.TestCase):
    """Secrets are refused, and values are not shown."""

    def test_what_sounds_like_a_secret_is_refused_by_its_name(self):
        secrets = ["AWS_SECRET_ACCESS_KEY", "api_key", "GitHub-Token", "DbPassword", "PASSWD"]
        for given in (dict.fromkeys(secrets, "hush"), [f"{name}=hush" for name in secrets]):
            [error] = variable_errors({"environment": given})
            for name in secrets:
                self.assertIn(name, error)
            self.assertNotIn("hush", error)

    def test_other_variables_may_be_given(self):
        for given in ({"MODE": "fast", "PATH": "/bin"}, ["MODE=fast"], None, 7, {}, ["odd", 1]):
            self.assertEqual([], variable_errors({"environment": given}))
        self.assertEqual([], variable_errors({"comment": "the KEY to it"}))

    def test_of_the_variables_the_names_alone_are_shown(self):
        for given in ({"A": "hush", "B": ["hush"]}, ["A=hush", "B=hush=hush"]):
            shown = json.loads(without_values(json.dumps({"tasks": 2, "environment": given})))
            self.assertEqual(2, shown["tasks"])
            self.assertEqual(["A", "B"], list(shown["environment"]))
            self.assertNotIn("hush", str(shown))
        self.assertNotIn("hush", without_values('{"environment": "hush"}'))

    def test_what_has_no_variables_is_shown_as_it_was_given(self):
        for text in ("", "{}", ' {"tasks":2}', "no JSON", "[1]", '{"environment": {}}'):
            self.assertEqual(text, without_values(text))
