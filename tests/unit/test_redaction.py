"""What the process holds as a secret appears in no text, whatever it is encoded as."""

import base64
import html
import io
import json
import logging
import os
import time
import unittest
from unittest.mock import patch
from urllib.parse import quote, quote_plus

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service import redaction
from aind_data_transfer_service.errors import TransferServiceError
from aind_data_transfer_service.redaction import HIDDEN, Redactor
from aind_data_transfer_service.settings.metadata_sources import SlimsSettings
from tests.support import slow

AWKWARD = "pä ss/w\"o\\rd&<x>+1'😀%"
SPELLINGS = {
    "plain": str,
    "percent": quote,
    "percent, all": lambda text: quote(text, safe=""),
    "percent, lower": lambda text: quote(text, safe="").lower() if text.islower() else quote(text),
    "form": quote_plus,
    "percent, twice": lambda text: quote(quote(text, safe=""), safe=""),
    "json": json.dumps,
    "json, not ascii": lambda text: json.dumps(text, ensure_ascii=False),
    "json, twice": lambda text: json.dumps(json.dumps(text)),
    "json of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "html": html.escape,
    "json in html": lambda text: html.escape(json.dumps(text)),
    "python": repr,
}


def learned(*secrets: str) -> Redactor:
    """Make one that knows secrets."""
    redactor = Redactor()
    redactor.learn(*secrets)
    return redactor


class Spellings(unittest.TestCase):
    """A secret is found in every form in which servers repeat it."""

    def test_every_spelling_of_an_awkward_secret_is_hidden(self) -> None:
        redactor = learned(AWKWARD)
        for name, spell in SPELLINGS.items():
            with self.subTest(name):
                text = redactor.redact(f"before {spell(AWKWARD)} after")
                self.assertRegex(text, r"^before (\W|%2|quot)*\[hidden\](\W|%2|quot)* after$")

    def test_within_base64_all_of_it_is_hidden(self) -> None:
        for secret in (AWKWARD, "Token-of-2024", "abc-12"):
            redactor = learned(secret)
            for user in ("", "u", "uu", "uuu"):
                for tail in ("", "x", "xy"):
                    data = f"{user}:{secret}{tail}".encode()
                    for encode in (base64.b64encode, base64.urlsafe_b64encode):
                        text = encode(data).decode()
                        self.assertEqual(f"Basic {HIDDEN}.", redactor.redact(f"Basic {text}."))
                        self.assertEqual(f"x {HIDDEN}", redactor.redact(f"x {quote(text)}"))

    @slow
    @settings(max_examples=40, deadline=None)
    @given(st.text(min_size=6, max_size=40), st.sampled_from(sorted(SPELLINGS)))
    def test_no_secret_of_any_letters_survives(self, secret: str, name: str) -> None:
        if any("\ud800" <= letter <= "\udfff" for letter in secret):
            return
        text = SPELLINGS[name](secret)
        self.assertNotIn(secret, learned(secret).redact(f"a {text} b"))
        self.assertNotIn(text, learned(secret).redact(f"a {text} b"))

    def test_the_longer_of_two_secrets_is_hidden_as_one(self) -> None:
        self.assertEqual(HIDDEN, learned("hunter", "hunter22").redact("hunter22"))

    def test_short_secrets_do_not_blot_out_words(self) -> None:
        redactor = learned("test", "a", "", "password")
        for text in ("a test of data", "write the address without a password"):
            self.assertEqual(text, redactor.redact(text))
        self.assertTrue(redactor.is_secret("test"))

    def test_old_tokens_are_forgotten_in_time(self) -> None:
        redactor = Redactor()
        for number in range(100):
            redactor.learn(f"token-number-{number:03}", renewed=True)
        self.assertEqual(HIDDEN, redactor.redact("token-number-099"))
        self.assertEqual("token-number-000", redactor.redact("token-number-000"))

    def test_passwords_in_addresses_and_tokens_need_not_be_known(self) -> None:
        redactor = Redactor()
        text = redactor.redact("postgresql://bob:hunter2@db/x of eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9")
        self.assertEqual(f"postgresql://bob:{HIDDEN}@db/x of {HIDDEN}", text)
        plain = "see https://h:8443/a@b and mailto:bob@example.org, sha256 " + "0f" * 32
        self.assertEqual(plain, redactor.redact(plain))

    def test_of_an_address_the_parts_that_are_secret_count(self) -> None:
        redactor = Redactor()
        redactor.learn_setting("postgresql://svc:p%40ss+word@db.example.org/jobs?sslpassword=key-8")
        redactor.learn_setting("https://hooks.example.org/services/T0/B0/XYZ?key=1")
        for text in ("p%40ss+word", "p@ss+word", "/services/T0/B0/XYZ?key=1", "svc:p@ss+word"):
            self.assertNotIn("word", redactor.redact(text))
            self.assertNotIn("XYZ", redactor.redact(text))
        self.assertEqual("db.example.org/jobs", redactor.redact("db.example.org/jobs"))

    def test_an_address_without_a_secret_path_hides_neither_its_host_nor_words(self) -> None:
        for address in (
            *("https://hooks.lab.example", "https://hooks.lab.example/", "http://hooks"),
            *("https://hooks.lab.example/notify", "https://hooks.lab.example:8443?notify"),
            *("https://hooks.lab.example/hooks/in", "https://hooks.lab.example/notify/"),
        ):
            redactor = Redactor()
            redactor.learn_setting(address)
            plain = "hooks.lab.example:8443 of hooks.lab.example did not notify hooks/in, notify/"
            with self.subTest(address):
                self.assertEqual(plain, redactor.redact(plain))
                self.assertEqual(f"at {HIDDEN}", redactor.redact(f"at {address}"))
        for path in ("services-of-the-lab", "a/T0B0XY", "?key=abcd-8", "a/b/c/d/e/f/g"):
            redactor = Redactor()
            redactor.learn_setting(f"https://hooks.lab.example/{path}")
            with self.subTest(path):
                self.assertEqual(f"/{HIDDEN} x", redactor.redact(f"/{path} x"))

    def test_hostile_text_takes_no_time(self) -> None:
        redactor = learned(AWKWARD, "\\" * 6, "aaaaaaaab", "://a:b@c")
        for piece in ("eyJ", "://a:", "\\", "a", "%25", "&#0", "aaaaaaaa", "YWFh"):
            began = time.process_time()
            redactor.redact(piece * (50_000 // len(piece)))
            self.assertLess(time.process_time() - began, 1.0, piece)

    def test_json_keeps_its_form(self) -> None:
        redaction.learn("secret-of-json")
        told = {"a": ["x secret-of-json", 1, None], "secret-of-json": {"b": ("secret-of-json",)}}
        self.assertEqual(
            {"a": [f"x {HIDDEN}", 1, None], HIDDEN: {"b": (HIDDEN,)}}, redaction.redact_all(told)
        )
        deep: list = []
        for _ in range(500):
            deep = [deep]
        self.assertIn(HIDDEN, json.dumps(redaction.redact_all(deep)))


KEY_LINES = [
    f"MIIE{number:02}x/+abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOP" for number in range(9)
]
KEY_LINES.append("tail+9==")


def private_key(kind: str = "RSA ", *headers: str) -> str:
    """Write a private key as PEM."""
    head = [*headers, ""] if headers else []
    ends = (f"-----BEGIN {kind}PRIVATE KEY-----", f"-----END {kind}PRIVATE KEY-----")
    return "\n".join([ends[0], *head, *KEY_LINES, ends[1]])


def pieces_of(text: str, cuts: set[int]) -> list[str]:
    """Cut a text after some of its lines."""
    lines = text.splitlines(keepends=True)
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(lines)), len(lines)]
    return ["".join(lines[one:other]) for one, other in zip(places, places[1:])]


class SeveralLines(unittest.TestCase):
    """Secrets of several lines, which a log may have in pieces."""

    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True), min_size=2, max_size=5),
        st.sets(st.integers(1, 6)),
    )
    def test_no_piece_shows_the_part_of_a_known_secret_that_it_has(self, lines, cuts) -> None:
        secret = "\n".join(lines)
        redactor = learned(secret)
        begin = len("one\nKEY=")
        text, place = f"one\nKEY={secret}\ntwo\n", 0
        for piece in pieces_of(text, cuts):
            held = text[max(place, begin) : min(place + len(piece), begin + len(secret))]
            place += len(piece)
            shown = redactor.redact(piece, is_cut=True)
            if len(held.strip("\n")) >= 6:
                self.assertNotIn(held.strip("\n"), shown)

    def test_a_long_line_is_hidden_whatever_is_around_it(self) -> None:
        redactor = learned(private_key())
        for line in KEY_LINES:
            self.assertEqual(f"12:00 | {HIDDEN}.", redactor.redact(f"12:00 | {line}."))
        for words in ("PRIVATE KEY", "-----BEGIN RSA PRIVATE KEY-----"):
            self.assertEqual(words, redactor.redact(words))

    def test_a_private_key_need_not_be_known(self) -> None:
        redactor = Redactor()
        for headers in ((), ("Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,0F")):
            for kind in ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "):
                key = private_key(kind, *headers)
                for text in (key, json.dumps(key), key.replace("\n", "\r\n")):
                    with self.subTest(kind=kind, headers=headers, text=text[:30]):
                        shown = redactor.redact(f"one, {text}\ntwo: 2-3\n")
                        self.assertRegex(
                            shown, r"^one, \"?-----BEGIN [A-Z ]*-----\[hidden\]-----END"
                        )
                        self.assertIn("two: 2-3\n", shown)

    def test_a_certificate_is_no_secret(self) -> None:
        text = private_key().replace("PRIVATE KEY", "CERTIFICATE")
        self.assertEqual(text, Redactor().redact(text))

    def test_no_part_of_a_private_key_is_shown_by_the_piece_that_begins_or_ends_within(
        self,
    ) -> None:
        redactor, text = Redactor(), f"one: 1\n{private_key()}\ntwo: 2\n"
        for cut in range(1, 14):
            shown = "".join(redactor.redact(one, is_cut=True) for one in pieces_of(text, {cut}))
            for line in KEY_LINES:
                self.assertNotIn(line, shown, cut)
            self.assertTrue(shown.startswith("one: 1\n") and shown.endswith("two: 2\n"), shown)

    def test_hostile_keys_take_no_time(self) -> None:
        redactor = Redactor()
        begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
        for text in (begin * 20_000, end * 20_000, "A" * 500_000 + end, f"{begin}A" * 20_000):
            started = time.process_time()
            redactor.redact(text, is_cut=True)
            self.assertLess(time.process_time() - started, 1.0, text[:40])


class WhereSecretsComeFrom(unittest.TestCase):
    """Whoever reads a secret registers it."""

    def test_settings_and_the_environment_are_learned(self) -> None:
        variables = {
            "slims_password": "slims-password-1",
            "Aws_Secret_Access_Key": "aws-secret-1/+x",
            "https_proxy": "bob:proxy-word-1@proxy:3128",
            "PGPASSWORD": "pg-word-1",
            "AWS_ENDPOINT_URL": "https://key:endpoint-1@s3.example.org",
            "HPC_TOKEN_FILE": "/run/token-file",
        }
        more = {"SLIMS_HOST": "https://slims", "SLIMS_USERNAME": "svc"}
        with patch.dict(os.environ, variables | more):
            SlimsSettings()
        for word in ("slims-password-1", "aws-secret-1/+x", "proxy-word-1", "pg-word-1"):
            self.assertEqual(HIDDEN, redaction.redact(word))
        self.assertEqual(HIDDEN, redaction.redact("endpoint-1"))
        self.assertEqual("/run/token-file", redaction.redact("/run/token-file"))

    def test_errors_and_logs_are_without_them(self) -> None:
        redaction.learn("word-of-the-day")
        self.assertEqual(f"says {HIDDEN}", str(TransferServiceError("says word-of-the-day")))
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s %(place)s"))
        redaction.protect_logs([handler])
        log = logging.getLogger("tests.redaction")
        log.addHandler(handler)
        self.addCleanup(log.removeHandler, handler)
        log.propagate = False
        fields = {"place": "at word-of-the-day"}
        try:
            raise ValueError("word-of-the-day")
        except ValueError:
            log.exception("%s and %r", "word-of-the-day", {1: "word-of-the-day"}, extra=fields)
        log.error("%d", "word-of-the-day", extra=fields, stack_info=True)
        record = logging.makeLogRecord({"msg": "%s %d", "args": ("/word-of-the-day", 200)})
        redaction.RedactingFilter().filter(record)
        self.assertEqual((f"/{HIDDEN}", 200), record.args)
        self.assertIn(f"ValueError: {HIDDEN}", stream.getvalue())
        self.assertNotIn("word-of-the-day", stream.getvalue())


if __name__ == "__main__":
    unittest.main()
