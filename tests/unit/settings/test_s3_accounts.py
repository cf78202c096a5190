"""Accounts of S3 by name: which keys the jobs of a bucket get, and that no value is shown."""

import json
import os
import unittest
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aind_data_transfer_service import redaction
from aind_data_transfer_service.redaction import Redactor
from aind_data_transfer_service.settings.base import explain_settings, read_settings
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.types import can_match_bucket
from aind_data_transfer_service.settings.unknown_variables import check_names, secret_variables
from tests.support import slow
from tests.support.seed import SEED

OPEN = {
    "buckets": ["lab-open", "open-*"],
    "aws_access_key_id": "open-id",
    "aws_secret_access_key": "kept-secret-1",
}
OTHER = {
    "buckets": ["partner-data"],
    "aws_access_key_id": "partner-id",
    "aws_secret_access_key": "kept-secret-2",
    "aws_session_token": "kept-session-2",
    "aws_default_region": "eu-central-1",
}
MARK = "hunter2"
KEYS = tuple(OTHER)


def read(accounts: Any, **variables: str) -> tuple[ServiceSettings, list[str]]:
    """Read the service's settings with accounts, given as JSON text or as what it is made of."""
    text = accounts if isinstance(accounts, str) else json.dumps(accounts)
    with mock.patch.dict(os.environ, {**variables, "S3_ACCOUNTS": text}, clear=True):
        return read_settings(ServiceSettings)


class Reading(unittest.TestCase):
    """What accounts say about the jobs of their buckets."""

    def read(self, accounts: Any, **variables: str) -> ServiceSettings:
        """Read accounts that are right."""
        found, problems = read(accounts, **variables)
        self.assertEqual([], problems)
        return found

    def keys(self, found: ServiceSettings, bucket: str) -> list[str | None]:
        """Return what a job of a bucket gets."""
        hpc = found.hpc_for(bucket)
        secrets = (hpc.aws_secret_access_key, hpc.aws_session_token)
        shown = [secret and secret.get_secret_value() for secret in secrets]
        return [hpc.aws_access_key_id, *shown, hpc.aws_default_region]

    def test_each_bucket_has_the_keys_of_its_account_and_any_other_those_of_the_cluster(self):
        lab = SEED | {"HPC_AWS_SESSION_TOKEN": "lab-session"}
        found = self.read({"open": OPEN, "partner": OTHER}, **lab)
        for bucket in ("lab-open", "open-", "open-2"):
            expected = ["open-id", "kept-secret-1", None, "us-west-2"]
            self.assertEqual(expected, self.keys(found, bucket), "the token is of the other keys")
        expected = ["partner-id", "kept-secret-2", "kept-session-2", "eu-central-1"]
        self.assertEqual(expected, self.keys(found, "partner-data"))
        for bucket in ("aind-open-data", "my-lab-open", "partner-data2", ""):
            self.assertEqual(found.hpc, found.hpc_for(bucket))
        self.assertEqual(found.hpc.host, found.hpc_for("lab-open").host)

    def test_a_name_wins_over_a_pattern_and_an_earlier_pattern_over_a_later_one(self):
        accounts = {
            "all": OPEN | {"buckets": ["lab-*"]},
            "some": OTHER | {"buckets": ["lab-a", "lab-b*"]},
        }
        found = self.read(accounts, **SEED)
        used = {name: found.hpc_for(name).aws_access_key_id for name in ("lab-a", "lab-b1")}
        self.assertEqual({"lab-a": "partner-id", "lab-b1": "open-id"}, used)

    def test_a_job_without_a_bucket_has_no_account(self):
        found = self.read({"all": OPEN | {"buckets": ["*"]}}, **SEED)
        self.assertEqual(found.hpc, found.hpc_for(""))
        self.assertNotEqual(found.hpc, found.hpc_for("x-data"))

    def test_without_accounts_nothing_changes(self):
        for text in ("", "{}", " { } "):
            found = self.read(text, **SEED)
            self.assertEqual(found.hpc, found.hpc_for("aind-open-data"))

    def test_keys_are_read_in_any_case_and_empty_ones_are_not_set(self):
        account = {name.upper(): value for name, value in OPEN.items()}
        more = {"aws_session_token": "", "Aws_Default_Region": None}
        found = self.read({"open": account | more}, **SEED)
        expected = ["open-id", "kept-secret-1", None, "us-west-2"]
        self.assertEqual(expected, self.keys(found, "lab-open"))


class Mistakes(unittest.TestCase):
    """Everything wrong is reported at once, by account and key, and without any value."""

    def assert_refused(self, accounts: Any, *expected: str) -> None:
        """Make sure that there are exactly these problems."""
        found, problems = read(accounts, **SEED)
        self.assertEqual([f"S3_ACCOUNTS: {line}" for line in expected], problems)
        self.assertEqual((), found.s3_accounts.get_secret_value())

    def test_all_mistakes_are_reported_at_once_with_those_of_other_settings(self):
        accounts = {
            "open data": OPEN | {"aws_session_tokn": "x", "aws_default_region": "US West"},
            "half": {"buckets": ["open-*", 7], "aws_access_key_id": "id"},
            "other half": {"buckets": "lab", "aws_secret_access_key": f"{MARK} "},
            "none": [OTHER],
            "more": OTHER | {"buckets": [], "aws_access_key_id": 5, "aws_session_token": True},
        }
        both = "set both aws_access_key_id and aws_secret_access_key"
        ascii_only = "contains a blank, a control character or one outside ASCII"
        expected = [
            'account "open data": "aws_session_tokn": unknown key; did you mean '
            "aws_session_token?",
            'account "open data": aws_default_region: not a region; write a name such as us-west-2',
            f'account "half": aws_secret_access_key: missing; {both}',
            'account "half": buckets: item 2 is not a text',
            f'account "other half": aws_access_key_id: missing; {both}',
            'account "other half": buckets: not a list of texts; write ["lab-data", "open-*"]',
            f'account "other half": aws_secret_access_key: {ascii_only}',
            f'account "none": not an object with the keys {", ".join(KEYS)}',
            'account "more": buckets: names no bucket',
            'account "more": aws_access_key_id: not a text',
            'account "more": aws_session_token: not a text',
            'account "half": buckets: item 1 belongs to account "open data" too; name each bucket '
            "and each pattern once",
        ]
        _, problems = read(accounts, **SEED, DATE_ORDER="YMD", SMTP_PORT="many")
        lines = [line for line in problems if line.startswith("S3_ACCOUNTS: ")]
        self.assertEqual([f"S3_ACCOUNTS: {line}" for line in expected], lines)
        others = [line.split(":")[0] for line in problems if line not in lines]
        self.assertEqual(["DATE_ORDER", "SMTP_PORT"], sorted(others))

    def test_what_is_not_an_object_of_accounts(self):
        example = 'write {"open-data": {"buckets": ["open-*"], "aws_access_key_id": "…", …}}'
        for text in (f'{{"a": "{MARK}', f"{MARK}", f"{{'a': '{MARK}'}}"):
            _, [problem] = read(text)
            self.assertRegex(problem, r"^S3_ACCOUNTS: not valid JSON \(line 1, column \d+\); write")
            self.assertNotIn(MARK, problem)
        for value in ([OPEN], 5, None, f'"{MARK}"', True):
            self.assert_refused(value, f"not a JSON object of accounts by name; {example}")
        self.assert_refused("[" * 100_000, "nested too deeply")
        self.assert_refused('{"a":' * 100_000, "nested too deeply")
        self.assert_refused('{"a": ' + "9" * 5000 + "}", f"a number is too long; {example}")

    def test_an_account_or_a_key_that_is_there_twice(self):
        text = json.dumps(OPEN)
        self.assert_refused(f'{{"a": {text}, "a": {text}}}', 'account "a": defined twice')
        twice = text[:-1] + f', "AWS_SECRET_ACCESS_KEY": "{MARK}-1"}}'
        self.assert_refused(f'{{"a": {twice}}}', 'account "a": "aws_secret_access_key": set twice')
        self.assert_refused({" ": OPEN}, "an account has an empty name")

    def test_nested_values_are_named_and_not_shown(self):
        deep: Any = MARK
        for _ in range(400):
            deep = [deep]
        _, problems = read({"a": OPEN | {"buckets": deep, "aws_access_key_id": {"x": deep}}})
        self.assertEqual(2, len(problems))
        self.assertNotIn(MARK, "".join(problems))

    def test_a_bucket_or_pattern_that_cannot_exist(self):
        wrong = ("Open-*", "s3://a-b", "a/b", "ab", "-a*", "*-", "a..b", "abc[", "a[!a-z0-9._-]b")
        wrong += ("a b", "", "?" * 64, "x[]", "*!", "A" * 99, "abc\n", "*_", ".?*")
        account = OPEN | {"buckets": [*wrong, "ok-bucket"]}
        _, problems = read({"a": account})
        self.assertEqual(len(wrong), len(problems))
        for place, line in enumerate(problems, 1):
            self.assertRegex(line, f'account "a": buckets: item {place} matches no bucket; ')
        for pattern in ("*", "a*", "*a", "a?c", "lab[0-9]x", "[!a]bc", "a_b-c.d", "?" * 63, "**"):
            self.assertTrue(can_match_bucket(pattern), pattern)
        _, [problem] = read("{}", ALLOWED_BUCKETS="lab-*,abc[")
        self.assertIn('ALLOWED_BUCKETS: "abc[" is neither a bucket nor a pattern', problem)

    def test_so_many_mistakes_that_not_all_are_listed(self):
        _, problems = read({f"account {number}": [] for number in range(150)})
        self.assertEqual((101, "S3_ACCOUNTS: 50 more problems"), (len(problems), problems[-1]))

    def test_the_settings_of_one_account_of_earlier_releases_are_errors_that_name_this_one(self):
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        for name in (*keys, "AWS_DEFAULT_REGION", "BUCKETS"):
            [error] = check_names({f"OPEN_DATA_{name}": MARK}).errors
            self.assertIn("no longer a setting; remove it (set S3_ACCOUNTS", error)
            self.assertNotIn(MARK, error)

    def test_names_that_resemble_the_setting(self):
        [error] = check_names({"S3_ACCOUNTS_OPEN": "x"}).errors
        self.assertIn("S3_ACCOUNTS_OPEN: unknown setting; did you mean S3_ACCOUNTS?", error)
        [warning] = check_names({"S3_ACCOUNT": "x"}).warnings
        self.assertIn("is it S3_ACCOUNTS?", warning)


class Secrecy(unittest.TestCase):
    """No value leaves the service but with the jobs of its bucket."""

    def test_it_is_a_secret_setting_that_nothing_shows(self):
        self.assertIn("S3_ACCOUNTS", secret_variables())
        found, _ = read({"partner": OTHER}, **SEED)
        shown = f"{found!r} {found} {found.model_dump()} {found.hpc_for('partner-data')!r}"
        self.assertNotIn("kept-se", shown)

    def test_each_secret_is_removed_from_text_even_if_the_setting_is_wrong(self):
        wrong = {"aws_secret_acess_key": "kept-secret-3", "x": [{"y": "kept-secret-4"}]}
        accounts = {"a": OPEN, "b": OTHER, "c": wrong, "d": "kept-secret-5"}
        redactor = Redactor()
        with mock.patch.object(redaction, "learn", redactor.learn):
            read(accounts)
        text = (
            "kept-secret-1 kept-secret-2 kept-session-2 kept-secret-3 kept-secret-4 kept-secret-5"
        )
        self.assertEqual(" ".join(["[hidden]"] * 6), redactor.redact(text))
        self.assertEqual("open-* open-id us-west-2", redactor.redact("open-* open-id us-west-2"))

    def test_a_value_of_another_type_is_not_shown(self):
        for value in ({"a": OPEN}, [OPEN], 7_654_321):
            with self.assertRaises(ValidationError) as caught:
                ServiceSettings(s3_accounts=value)
            [line] = explain_settings(caught.exception)
            self.assertRegex(line, "^S3_ACCOUNTS: not a text; ")
            self.assertNotRegex(f"{line} {caught.exception}", "kept|7654321")

    def test_a_secret_in_place_of_a_name_is_not_shown(self):
        secret = "k" * 70 + MARK
        _, problems = read({secret: OPEN | {"aws_secret_access_key": secret, secret: "x"}})
        self.assertEqual(1, len(problems))
        self.assertNotIn("kkkk", problems[0])

    def test_no_job_gets_the_setting_and_none_on_this_machine_a_key_of_an_account(self):
        accounts = {"open": OPEN, "partner": OTHER}
        copies = {"AWS_COPY": "kept-secret-1", "LC_ALL": "kept-session-2", "PYTHON_X": "open"}
        variables = copies | {"S3_ACCOUNTS": json.dumps(accounts), "s3_Accounts": "{}"}
        with mock.patch.dict(os.environ, variables, clear=True):
            found = ServiceSettings(s3_accounts=json.dumps(accounts))
            environment = found.job_environment()
        self.assertEqual({"PYTHON_X"}, variables.keys() & environment.keys())
        for values in (environment, found.agreed_environment()):
            self.assertNotIn("S3_ACCOUNTS", map(str.upper, values))
            self.assertNotIn("kept-se", " ".join(values.values()))

    def test_keys_that_jobs_on_this_machine_are_given_stay_theirs(self):
        own = {"AWS_ACCESS_KEY_ID": "open-id", "AWS_SECRET_ACCESS_KEY": "kept-secret-1"}
        with mock.patch.dict(os.environ, own | {"S3_ACCOUNTS": json.dumps({"a": OPEN})}):
            environment = ServiceSettings().job_environment()
        self.assertLessEqual(own.items(), environment.items())


def anything(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return JSON of any shape with these leaves."""
    names = st.sampled_from(KEYS) | st.text(max_size=5)

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6)

    return st.recursive(leaves, nested, max_leaves=12)


TEXTS = st.text(max_size=8).map(lambda text: MARK + text)
LEAVES = TEXTS | st.none() | st.booleans() | st.just(7_654_321) | st.floats()


class Wild(unittest.TestCase):
    """Any value gives accounts or messages, and no message shows what is in it."""

    def assert_readable(self, text: str) -> None:
        """Read a value with a redactor that hides nothing."""
        plain = {"learn": mock.Mock(), "redact": str}
        with mock.patch.multiple(redaction, **plain):
            found, problems = read(text)
        said = "\n".join(problems)
        self.assertTrue(all(line.startswith("S3_ACCOUNTS: ") for line in problems), said)
        self.assertNotIn(MARK, said)
        self.assertNotIn("7654321", said)
        self.assertTrue(all(line.isprintable() for line in problems), said)
        self.assertTrue(not problems or not found.s3_accounts.get_secret_value())

    @settings(deadline=None, max_examples=80)
    @given(anything(LEAVES))
    def test_of_json_of_any_shape(self, value: Any) -> None:
        self.assert_readable(json.dumps(value))

    @slow
    @settings(deadline=None, max_examples=80)
    @given(
        st.dictionaries(
            st.text(max_size=4),
            st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, anything(LEAVES) | TEXTS)),
            max_size=4,
        )
    )
    def test_of_what_resembles_accounts(self, value: Any) -> None:
        self.assert_readable(json.dumps(value))

    @settings(deadline=None, max_examples=80)
    @given(st.text(alphabet='{}[]":,\\u09 \n\t-eaé', max_size=40))
    def test_of_text(self, text: str) -> None:
        self.assert_readable(f"{text}{MARK}")


if __name__ == "__main__":
    unittest.main()
