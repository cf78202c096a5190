"""Signatures, beside botocore's own."""

import unittest
from datetime import UTC, datetime
from unittest.mock import patch

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.storage.model import Keys
from aind_data_transfer_service.storage.s3.sigv4 import Clock, encode_path, encode_query, sign

MOMENT = 1_790_000_000
NAMES = st.text("aZ09 ü~+&=%/'()*!@:;,?#", max_size=12)


class TestSignature(unittest.TestCase):
    """The same request, signed by both."""

    @given(
        NAMES.map(lambda name: f"/bucket/{name.strip('/')}"),
        st.dictionaries(st.sampled_from(["partNumber", "uploadId", "prefix"]), NAMES),
        st.dictionaries(st.sampled_from(["x-amz-b", "x-amz-a"]), st.sampled_from(["1", "a  b"])),
        st.sampled_from([None, "a-token"]),
    )
    def test_it_is_that_of_botocore(self, path, query, headers, token):
        stamp = Clock(lambda: MOMENT).stamp()
        text = encode_query(query)
        headers = {**headers, "host": "127.0.0.1:8333"}
        keys = Keys("key", "secret", token)
        ours = sign(keys, "us-west-2", stamp, "PUT", encode_path(path), text, headers)
        address = f"http://127.0.0.1:8333{encode_path(path)}" + (f"?{text}" if text else "")
        request = AWSRequest("PUT", address, headers={k: v for k, v in headers.items()})
        request.context["payload_signing_enabled"] = False
        request.context["client_config"] = None
        moment = datetime.fromtimestamp(MOMENT, UTC)
        signer = S3SigV4Auth(BotoCredentials("key", "secret", token), "s3", "us-west-2")
        signer.payload = lambda request: "UNSIGNED-PAYLOAD"
        with patch("botocore.auth.get_current_datetime", lambda **_: moment):
            signer.add_auth(request)
        self.assertEqual(ours["authorization"], request.headers["Authorization"])

    def test_secrets_are_never_shown(self):
        self.assertNotIn("secret", repr(Keys("key", "secret", "secret-token")))


class TestClock(unittest.TestCase):
    """By whose time requests are signed."""

    def test_it_follows_the_server(self):
        clock = Clock(lambda: MOMENT)
        self.assertTrue(clock.follow("Mon, 21 Sep 2026 16:13:20 GMT"))
        self.assertEqual(clock.stamp(), "20260921T161320Z")
        self.assertFalse(clock.follow("tomorrow"))
        self.assertEqual(clock.stamp(), "20260921T161320Z")
