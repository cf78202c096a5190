"""Host names: what is one, and which are the same."""

import unittest

from aind_data_transfer_service.network.host_names import (
    Authority,
    matches,
    parse_authority,
    parse_origin,
    parse_pattern,
)


class AuthorityTest(unittest.TestCase):
    """The value of a `Host` header."""

    def test_names_are_compared_without_case_trailing_dot_and_default_port(self) -> None:
        for text in ("transfer.lab", "Transfer.LAB", "transfer.lab.", "TRANSFER.lab.:80"):
            for ending in ("", ":"):
                with self.subTest(text + ending):
                    text = text if ":" in text else text + ending
                    self.assertEqual(Authority("transfer.lab"), parse_authority(text))
        self.assertEqual(Authority("transfer.lab"), parse_authority("transfer.lab:443"))
        self.assertEqual(Authority("transfer.lab", 8080), parse_authority("transfer.lab:8080"))

    def test_addresses_are_compared_in_their_shortest_form(self) -> None:
        for text, expected in {
            "127.0.0.1:5000": Authority("127.0.0.1", 5000),
            "10.1.2.3.": Authority("10.1.2.3"),
            "[0:0:0:0:0:0:0:1]:5000": Authority("::1", 5000),
            "[FE80::1%25eth0]": Authority("fe80::1"),
            "[fe80::1%eth0]:81": Authority("fe80::1", 81),
            "[::ffff:10.0.0.1]": Authority("::ffff:a00:1"),
        }.items():
            with self.subTest(text):
                found = parse_authority(text)
                self.assertEqual(expected.port, found.port)
                self.assertTrue(found.is_address)
                if "ffff" not in text:  # Python versions write these differently
                    self.assertEqual(expected.host, found.host)

    def test_what_only_looks_like_an_address_is_a_name(self) -> None:
        for text in ("127.1", "127.0.0.1.evil.example", "0177.0.0.1", "10.0.0.256", "0x7f.1"):
            with self.subTest(text):
                self.assertFalse(parse_authority(text).is_address)

    def test_what_is_malformed_is_none(self) -> None:
        for text in (
            *("", ".", ":80", "a..b", "-a.b", "a-.b", "a b", "a,b", "user@a.b", "a.b/c", "a.b?c"),
            *("http://a.b", "a.b:http", "a.b:99999", "a.b:0", "a.b:-1", "a.b:80:80", "a.b: 80"),
            *("[::1", "::1", "::1]:80", "[::1]80", "[127.0.0.1]", "[evil.example]", "[::1%]"),
            *(
                "[::1%25a/b]",
                "[v1.a]",
                "b\u00fccher.example",
                "a\x00.b",
                "a.b\r\n",
                "a.b#",
                "*.a.b",
            ),
            *("a" * 64 + ".example", "a." * 130 + "example", "1" * 100_000),
        ):
            with self.subTest(text[:40]):
                self.assertIsNone(parse_authority(text))

    def test_an_origin_has_a_scheme_and_a_host(self) -> None:
        self.assertEqual(Authority("a.b"), parse_origin("HTTPS://A.b:443"))
        self.assertEqual(Authority("::1", 81), parse_origin("http://[::1]:81"))
        for text in ("null", "", "a.b", "file://", "ftp://a.b", "http://u@a.b", "http://a.b/c"):
            with self.subTest(text):
                self.assertIsNone(parse_origin(text))


class PatternTest(unittest.TestCase):
    """What an administrator writes."""

    def test_names_addresses_and_patterns_are_taken(self) -> None:
        for text, expected in {
            " Transfer.LAB. ": "transfer.lab",
            "transfer": "transfer",
            "*.Lab.Example": "*.lab.example",
            "10.0.0.5": "10.0.0.5",
            "[::1]": "::1",
            "Bücher.example": "xn--bcher-kva.example",
            "*.straße.example": "*.xn--strae-oqa.example",
            "data_service": "data_service",
        }.items():
            with self.subTest(text):
                self.assertEqual(expected, parse_pattern(text))

    def test_anything_else_is_refused_with_an_example(self) -> None:
        for text in ("*", "*.", "http://a.b", "a.b:80", "a.*.b", "*a.b", "a/b", "*.10.0.0.1", ".b"):
            with (
                self.subTest(text),
                self.assertRaisesRegex(ValueError, r"such as \*\.lab\.example"),
            ):
                parse_pattern(text)

    def test_a_pattern_stands_for_all_names_below_a_domain(self) -> None:
        for host in ("a.lab.example", "a.b.lab.example"):
            self.assertTrue(matches(host, {"other", "*.lab.example"}))
        for host in ("lab.example", "evillab.example", "a.lab.example.evil.example"):
            self.assertFalse(matches(host, {"*.lab.example"}))
