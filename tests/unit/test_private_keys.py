"""Private keys that are not registered are found by their form, with whatever prefix per line."""

import base64
import json
import time
import unittest

from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.redaction import Redactor

SHORTEST = 6
"""Characters of the shortest secret that is searched for in text."""
PREFIXES = {
    "nothing": lambda number, line: line,
    "indentation": lambda number, line: f"    {line}",
    "tab": lambda number, line: f"\t{line}",
    "quotation": lambda number, line: f"> > {line}",
    "diff": lambda number, line: f"+ {line}",
    "numbers": lambda number, line: f"{number:>5}: {line}",
    "numbers with a bar": lambda number, line: f"{number} | {line}",
    "log": lambda number, line: f"2026-11-30 23:00:{number % 60:02},{number:03} INFO {line}",
    "log of a thread": lambda number, line: f"[thread-{number:04x}] key.py:{number} - {line}",
    "syslog": lambda number, line: f"Nov 30 23:00:{number % 60:02} node{number} upload[77]: {line}",
    "JSON by line": lambda number, line: json.dumps({"n": number, "text": line, "level": "INFO"}),
    "strings of Python": lambda number, line: f"    '{line}\\n'",
    "strings in a list": lambda number, line: f'  "{line}",',
    "end of the line": lambda number, line: f"{line}  # {number}",
}
FLATTENED = {
    "JSON": json.dumps,
    "JSON, twice": lambda text: json.dumps(json.dumps(text)),
    "JSON of PHP": lambda text: json.dumps(text).replace("/", "\\/"),
    "Windows in JSON": lambda text: json.dumps(text.replace("\n", "\r\n")),
    "percent": lambda text: text.replace("\n", "%0A").replace("+", "%2B").replace("/", "%2F"),
    "one line": lambda text: text.replace("\n", " "),
    "Python": repr,
}
KINDS = ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ")
PROSE = """\
see the line BEGIN
{}
Uploading session 12 to the bucket
the next line of the log, with the path /allen/aind/scratch/svc_data/ecephys_690165
error: no such file; 3 of 4 parts done
sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
s3://bucket/ecephys_690165_2024-02-19_11-25-17/original_metadata
done
"""


def lines_of(data: bytes, width: int) -> list[str]:
    """Return the lines of a key's body."""
    text = base64.b64encode(data).decode()
    return [text[at : at + width] for at in range(0, len(text), width)]


def key_of(body: list[str], kind: str = "") -> list[str]:
    """Return the lines of a key as PEM."""
    return [f"-----BEGIN {kind}PRIVATE KEY-----", *body, f"-----END {kind}PRIVATE KEY-----"]


bodies = st.builds(
    lines_of,
    st.randoms(use_true_random=False).flatmap(
        lambda source: st.integers(60, 1200).map(source.randbytes)
    ),
    st.sampled_from((64, 70, 76)),
)


class PrivateKeys(unittest.TestCase):
    """A redactor that knows no secrets."""

    def setUp(self) -> None:
        self.redactor = Redactor()

    def assert_hidden(self, body: list[str], shown: str, around: tuple[str, ...] = ()) -> None:
        """Check that no line of a key is shown, and that what is around it is."""
        for line in body:
            if len(line) >= SHORTEST:
                self.assertNotIn(line, shown)
                self.assertNotIn(line.rstrip("=")[:40], shown)
        for text in around:
            self.assertIn(text, shown)

    @settings(max_examples=150, deadline=None)
    @given(bodies, st.sampled_from(sorted(PREFIXES)), st.sampled_from(KINDS), st.data())
    def test_neither_piece_of_a_log_shows_a_line(self, body, name, kind, data) -> None:
        wrap = PREFIXES[name]
        lines = ["one: 1 of 2 files", *key_of(body, kind), "two: 2 of 2 files"]
        wrapped = [wrap(number, line) for number, line in enumerate(lines, 98)]
        cut = data.draw(st.integers(2, len(lines) - 2))
        for piece in (wrapped[:cut], wrapped[cut:]):
            shown = self.redactor.redact("\n".join([*piece, ""]), is_cut=True)
            held = [line for line in body if any(line in one for one in piece)]
            around = [text for text in ("one: 1 of 2 files", "two: 2 of 2 files")]
            self.assert_hidden(held, shown, tuple(a for a in around if any(a in p for p in piece)))

    @settings(max_examples=60, deadline=None)
    @given(bodies, st.sampled_from(sorted(PREFIXES)), st.sampled_from(KINDS))
    def test_lines_that_arrive_one_by_one(self, body, name, kind) -> None:
        stored = ""
        for number, line in enumerate(["one: 1", *key_of(body, kind), "two: 2"], 98):
            text = PREFIXES[name](number, line) + "\n"
            own = self.redactor.redact(text, is_cut=True)
            whole = stored + own
            stored += self.redactor.redact_range(whole, len(stored), len(whole), is_cut=True)
        self.assert_hidden(body, stored, ("one: 1", "two: 2"))

    @settings(max_examples=60, deadline=None)
    @given(bodies, st.sampled_from(sorted(FLATTENED)), st.sampled_from(("END", "BEGIN")))
    def test_a_key_on_one_line_of_which_an_end_is_missing(self, body, name, missing) -> None:
        lines = [line for line in key_of(body) if f"-----{missing}" not in line]
        text = FLATTENED[name]("\n".join(["first: 1", *lines, "last: 2"]))
        shown = self.redactor.redact(f"{text} more: 3\n")
        for line in body:
            if len(line) >= 24:
                self.assertNotIn(FLATTENED[name](line).strip("'\"\\"), shown)
        self.assertIn("more: 3", shown)

    def test_lines_of_other_threads_between_those_of_a_key(self) -> None:
        body = lines_of(bytes(range(256)) * 3, 64)
        lines = key_of(body)
        mixed = [f"INFO {text}" for line in lines for text in (line, "uploads part 3 of 7")]
        for piece in (mixed[:-2], mixed[1:]):
            shown = self.redactor.redact("\n".join(piece))
            self.assert_hidden(body, shown)
        self.assertEqual(len(lines), shown.count("uploads part 3 of 7"))

    def test_headers_of_an_encrypted_key(self) -> None:
        body = lines_of(bytes(range(200)), 64)
        head, *rest = key_of(body, "RSA ")
        lines = [head, "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,0F", "", *rest]
        for name, wrap in PREFIXES.items():
            with self.subTest(name):
                text = "\n".join(wrap(number, line) for number, line in enumerate(lines[:-1]))
                self.assert_hidden(body, self.redactor.redact(text, is_cut=True))

    def test_prose_after_or_before_a_mark_stays_readable(self) -> None:
        for mark in ("-----BEGIN PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"):
            for name, wrap in PREFIXES.items():
                with self.subTest(mark=mark, name=name):
                    lines = PROSE.format(mark).splitlines()
                    text = "\n".join(wrap(number, line) for number, line in enumerate(lines))
                    self.assertEqual(text, self.redactor.redact(text, is_cut=True))
                    self.assertEqual(text, self.redactor.redact(text))

    def test_prose_after_a_key_that_breaks_off_stays_readable(self) -> None:
        body = lines_of(bytes(range(256)) * 2, 64)
        for name, wrap in PREFIXES.items():
            with self.subTest(name):
                lines = [*key_of(body)[:-1], *PROSE.format("the end").splitlines()]
                text = [wrap(number, line) for number, line in enumerate(lines)]
                shown = self.redactor.redact("\n".join(text), is_cut=True).splitlines()
                self.assertEqual(text[len(body) + 1 :], shown[len(body) + 1 :])
                self.assert_hidden(body, "\n".join(shown))

    def test_hostile_text_takes_no_time(self) -> None:
        begin, end = "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"
        fill = "A1b" * 20
        for text in (
            *(begin * 20_000, end * 20_000, f"{begin}A" * 20_000, f"A{end}" * 20_000),
            *("\\" * 400_000 + end, begin + "\\" * 400_000, f"{begin}\n" + "\\n" * 200_000),
            *("1-" * 200_000 + end, f"{fill}\n" * 8000 + end, begin + f"\n1-{fill}" * 8000),
            *(begin + "\n[hidden]" * 40_000, begin + "%2B" * 100_000, " " * 400_000 + end),
            *(f"{begin}\n{'1.' * 200}{fill}\n" * 1000, f"{fill}\n{'1.' * 200}{end}\n" * 1000),
        ):
            started = time.process_time()
            self.redactor.redact(text, is_cut=True)
            self.assertLess(time.process_time() - started, 1.0, text[:40])


if __name__ == "__main__":
    unittest.main()
