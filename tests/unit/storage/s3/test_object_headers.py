"""The headers that settings add to requests: which, where, and with what error if refused."""

import os
import unittest
from types import SimpleNamespace
from unittest.mock import patch

from pydantic import ValidationError

from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import DestinationError
from aind_data_transfer_service.settings.env_policy import is_administrators, shared_variables
from aind_data_transfer_service.settings.s3 import S3Settings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.storage.base import BufferBody, Conduct
from aind_data_transfer_service.storage.model import S3Keys, Window
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.probes import probe
from aind_data_transfer_service.storage.s3.http import Reply, Wire
from aind_data_transfer_service.storage.s3.object_headers import content_type
from tests.support.scripted import OK, Scripted, refusal, reply

KEYS = S3Keys("key", "secret", region="us-east-1")
ALL = {
    "S3_ENCRYPTION": "aws:kms",
    "S3_KMS_KEY_ID": "arn:aws:kms:us-east-1:123456789012:key/1-2",
    "S3_BUCKET_KEY": "true",
    "S3_ACL": "bucket-owner-full-control",
    "S3_STORAGE_CLASS": "INTELLIGENT_TIERING",
    "S3_TAGS": "project=brain map&lab=north",
    "S3_REQUESTER_PAYS": "true",
    "S3_BUCKET_OWNER": "123456789012",
}
EVERY = {
    "x-amz-request-payer": "requester",
    "x-amz-expected-bucket-owner": "123456789012",
}
OBJECT = EVERY | {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:123456789012:key/1-2",
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
    "x-amz-acl": "bucket-owner-full-control",
    "x-amz-tagging": "project=brain%20map&lab=north",
}
DATA = OBJECT | {"x-amz-storage-class": "INTELLIGENT_TIERING"}
OF_SIGNATURES = ("x-amz-content-sha256", "x-amz-date")
_TRIED = (("POST", "s="), ("DELETE", "Id=u"))
EMPTY_LIST = reply(200, b"<ListBucketResult></ListBucketResult>")


class HeadersTest(unittest.TestCase):
    """Gives each test an environment without settings for S3."""

    def setUp(self):
        """Forget this machine's own settings."""
        names = ("AWS_", "S3_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(names)}
        self.enterContext(patch.dict(os.environ, environment, clear=True))

    def open(self, answer=lambda head: OK, **variables):
        """Start a server, and open a store with settings."""
        self.server = Scripted(answer, by_head=True)
        self.addCleanup(self.server.stop)
        os.environ.update(variables)
        conduct = Conduct(0.5, tell=lambda _: None)
        return open_store("s3://", "bucket", self.server.url, keys=KEYS, conduct=conduct)

    def sent(self):
        """Return, by operation, the headers of requests that settings and names decide."""
        found = {}
        for head in self.server.requests:
            first, *lines = head.decode().split("\n")
            method, target, _ = first.split(" ")
            headers = dict(line.split(": ", 1) for line in lines)
            kept = {
                name: value
                for name, value in headers.items()
                if name == "content-type" or name.startswith("x-amz-")
            }
            for name in list(kept):
                if name in OF_SIGNATURES or "checksum" in name:
                    del kept[name]
            found[f"{method} {target}"] = kept
        return found


class TestWhere(HeadersTest):
    """Each operation has the headers that the S3 API reference gives it."""

    def test_every_operation_has_its_own(self):
        begun = reply(200, b"<R><UploadId>u</UploadId></R>")
        done = reply(200, b"<R><ETag>whole</ETag></R>")
        gone = reply(200, b"<R><Deleted><Key>a/x</Key></Deleted></R>")

        def answer(head):
            line = head.split(b"\n")[0]
            if line.startswith(b"POST"):
                return begun if b"?uploads" in line else gone if b"?delete" in line else done
            return EMPTY_LIST if line.startswith(b"GET") else OK

        store = self.open(answer, **ALL)
        store.put("a/doc.json", b"{}")
        list(store.put_all([("a/b/movie.avi", b"1")], Window()))
        store.put_parts("a/large.tiff", [BufferBody(b"1")], 1 << 20, Traffic(1, 4 << 20))
        store.put_parts(
            ".transfer/a/manifest.jsonl", [BufferBody(b"1")], 1 << 20, Traffic(1, 4 << 20)
        )
        store.get("a/x")
        list(store.objects("a"))
        list(store.unfinished("a"))
        store.delete(["a/x"])
        listing = "list-type=2&prefix=a%2F"
        self.assertEqual(
            self.sent(),
            {
                "PUT /bucket/a/doc.json": OBJECT | {"content-type": "application/json"},
                "PUT /bucket/a/b/movie.avi": DATA | {"content-type": "video/x-msvideo"},
                "POST /bucket/a/large.tiff?uploads=": DATA | {"content-type": "image/tiff"},
                "PUT /bucket/a/large.tiff?partNumber=1&uploadId=u": EVERY,
                "POST /bucket/a/large.tiff?uploadId=u": EVERY,
                "POST /bucket/.transfer/a/manifest.jsonl?uploads=": OBJECT
                | {"content-type": "application/jsonl"},
                "PUT /bucket/.transfer/a/manifest.jsonl?partNumber=1&uploadId=u": EVERY,
                "POST /bucket/.transfer/a/manifest.jsonl?uploadId=u": EVERY,
                "GET /bucket/a/x": EVERY,
                f"GET /bucket?encoding-type=url&{listing}": EVERY,
                "GET /bucket?prefix=a%2F&uploads=": EVERY,
                "POST /bucket?delete=": EVERY,
            },
        )

    def test_what_is_set_is_signed(self):
        self.open(**ALL).put("a/x", b"1")
        (head,) = self.server.requests
        for name in OBJECT:
            self.assertRegex(head.decode(), rf"SignedHeaders=\S*{name}[;,]")

    def test_the_algorithm_of_checksums_is_named_as_object_lock_demands(self):
        begun, done = (reply(200, b"<R><%s>u</%s></R>" % (x, x)) for x in (b"UploadId", b"ETag"))
        answers = iter((OK, begun, OK, done))
        store = self.open(lambda head: next(answers))
        store.put("a/x", b"1")
        store.put_parts("a/y", [BufferBody(b"1")], 1 << 20, Traffic(1, 4 << 20))
        for head in (self.server.requests[0], self.server.requests[2]):
            self.assertIn(b"\nx-amz-sdk-checksum-algorithm: CRC64NVME\n", head)
            self.assertIn(b"\nx-amz-checksum-crc64nvme: ", head)

    def test_without_settings_there_is_the_media_type_alone(self):
        store = self.open()
        store.put("a/x.json", b"1")
        store.put("a/x", b"1")
        sent = {"PUT /bucket/a/x.json": {"content-type": "application/json"}, "PUT /bucket/a/x": {}}
        self.assertEqual(self.sent(), sent)

    def test_the_media_type_is_that_of_the_name(self):
        for name, expected in (
            ("a/b.JSON", "application/json"),
            ("a/b.tar.gz", "application/gzip"),
            ("a/b.csv", "text/csv"),
            ("a/b.yml", "application/yaml"),
            ("a/b.unknown", None),
            ("a.json/b", None),
            ("a/b", None),
        ):
            self.assertEqual(content_type(name), expected, name)


class TestRefusals(HeadersTest):
    """A bucket whose policy refuses objects: preflight finds out, and names the setting."""

    def refuse(self, is_allowed, words, **variables):
        """Probe a bucket that takes some requests to write, and see the message."""

        def answer(head):
            method = head.split(b" ")[0]
            if method == b"PUT":
                return OK if is_allowed(head.decode()) else refusal(403, "AccessDenied")
            if method == b"POST":
                return refusal(501, "NotImplemented")
            return EMPTY_LIST if method == b"GET" else reply(204)

        with patch.dict(os.environ, variables):
            store = self.open(answer)
        with self.assertRaisesRegex(DestinationError, f"^not allowed to write .*{words}$"):
            probe(store, "a")
        return [line for line in self.sent() if line.startswith("PUT")]

    def test_what_a_policy_demands_is_named(self):
        for header, words in (
            ("x-amz-server-side-encryption: AES256", "with S3_ENCRYPTION=AES256"),
            ("x-amz-server-side-encryption: aws:kms", "with S3_ENCRYPTION=aws:kms"),
            ("x-amz-acl: bucket-owner-full-control", "with S3_ACL=bucket-owner-full-control"),
        ):
            with self.subTest(header):
                self.refuse(lambda head: header in head, f"; the store accepts objects {words}")
        self.refuse(
            lambda head: "UNSIGNED-PAYLOAD" not in head, "with AWS_CHECKSUM_ALGORITHM=SHA256"
        )

    def test_what_is_not_allowed_is_named(self):
        for header, words, variables in (
            ("x-amz-acl", "without S3_ACL", {"S3_ACL": "bucket-owner-full-control"}),
            ("x-amz-tagging", "without S3_TAGS", {"S3_TAGS": "a=b"}),
            ("aws-kms-key-id", "without S3_KMS_KEY_ID", ALL),
            ("x-amz-server-side-encryption:", "without S3_ENCRYPTION", {"S3_ENCRYPTION": "AES256"}),
        ):
            with self.subTest(header):
                self.refuse(
                    lambda head: header not in head,
                    f"; the store accepts objects {words}",
                    **variables,
                )

    def probe_class(self, name, refuses, has_multipart=True):
        """Probe a server that refuses some requests with a storage class; return what was asked."""
        begun = reply(200, b"<R><UploadId>u</UploadId></R>")

        def answer(head):
            method, target = head.split(b" ")[:2]
            if b"\nx-amz-storage-class: " in head and method in refuses:
                return refusal(400, "InvalidStorageClass")
            if method == b"POST":
                is_begin = target.endswith(b"?uploads=") and has_multipart
                return begun if is_begin else refusal(501, "NotImplemented")
            if method == b"PUT":
                damaged = b"partNumber" in target or target.endswith(b"-w")
                return refusal(400, "BadDigest") if damaged else OK
            if method == b"GET":
                return EMPTY_LIST if b"?" in target else reply(200, self.id)
            return reply(204)

        store = self.open(answer, S3_STORAGE_CLASS=name)
        probe(store, "a")
        return store

    def test_a_storage_class_that_is_refused_is_named_before_the_transfer(self):
        self.id = b"i" * 16
        words = (
            r"InvalidStorageClass; this object had the storage class of S3_STORAGE_CLASS \(X_Y\)$"
        )
        for refuses, has_multipart in (([b"POST"], True), ([b"PUT"], True), ([b"PUT"], False)):
            with self.subTest(refuses=refuses, has_multipart=has_multipart):
                with patch("uuid.uuid4", return_value=SimpleNamespace(bytes=self.id, hex="h")):
                    with self.assertRaisesRegex(DestinationError, words):
                        self.probe_class("X_Y", refuses, has_multipart)

    def test_a_storage_class_that_is_accepted_leaves_nothing(self):
        self.id = b"i" * 16
        with patch("uuid.uuid4", return_value=SimpleNamespace(bytes=self.id, hex="h")):
            self.assertFalse(self.probe_class("GLACIER", []).proves_by_reading)
        sent = self.sent()
        classes = {line: h.get("x-amz-storage-class") for line, h in sent.items()}
        [trial] = {
            line.split(" ")[1] for line in sent if line.startswith("PUT") and line[-2:] == "-c"
        }
        self.assertEqual(
            {line for line, name in classes.items() if name},
            {f"POST {trial}?uploads=", f"PUT {trial}"},
            "records keep the default",
        )
        self.assertIn(f"DELETE {trial}?uploadId=u", sent)
        self.assertIn(f"DELETE {trial}", sent)

    def test_at_amazon_it_is_tried_without_an_object_that_would_be_charged(self):
        asked = []

        def begin(wire, head, body, method, halt=None, **options):
            asked.append(" ".join(head.decode().split(" ")[:2]))
            begun = Reply(200, {}, b"<R><UploadId>u</UploadId></R>")
            listed = Reply(200, {}, b"<ListMultipartUploadsResult></ListMultipartUploadsResult>")
            found = listed if head.startswith(b"GET") else begun
            return SimpleNamespace(reply=lambda _: found)

        os.environ["S3_STORAGE_CLASS"] = "DEEP_ARCHIVE"
        with patch.object(Wire, "begin", begin):
            open_store("s3://", "bucket", keys=KEYS).check_storage_class(".transfer/a/probe")
        self.assertEqual(asked[:2], [f"{x} /.transfer/a/probe?upload{y}" for x, y in _TRIED])
        self.assertFalse([line for line in asked if line.startswith("PUT")])

    def test_an_archive_class_is_refused_where_everything_has_to_be_read_back(self):
        answers = {b"GET": reply(200, b"i" * 16), b"POST": refusal(501, "NotImplemented")}
        store = self.open(
            lambda head: answers.get(head.split(b" ")[0], OK), S3_STORAGE_CLASS="GLACIER"
        )
        store.create = lambda: None
        with patch("uuid.uuid4", return_value=SimpleNamespace(bytes=b"i" * 16, hex="h")):
            with self.assertRaisesRegex(DestinationError, "S3_STORAGE_CLASS is GLACIER, whose obj"):
                probe(store, "a")

    def test_an_archived_object_is_named_when_it_is_read(self):
        store = self.open(lambda head: refusal(403, "InvalidObjectState"))
        with self.assertRaisesRegex(DestinationError, "archive storage class; restore it first"):
            list(store.read("a/x", 1))

    def test_a_bucket_of_another_account_is_named(self):
        store = self.open(lambda head: refusal(403, "AccessDenied"), S3_BUCKET_OWNER="123456789012")
        words = r"AccessDenied; does the account of S3_BUCKET_OWNER \(123456789012\) own the bucket"
        with self.assertRaisesRegex(DestinationError, words):
            probe(store, "a")

    def test_where_no_setting_helps_none_is_named(self):
        places = self.refuse(lambda head: False, ": AccessDenied", S3_ACL="private")
        for place in places:
            self.assertIn("/.transfer/a/probe-", place, "nothing but places of probes was tried")


class TestSettings(HeadersTest):
    """What can be set, and who hears of it."""

    def test_what_cannot_be_used_is_refused(self):
        for variables, words in (
            ({"S3_ENCRYPTION": "rot13"}, "'AES256', 'aws:kms' or 'aws:kms:dsse'"),
            ({"S3_KMS_KEY_ID": "k"}, "S3_KMS_KEY_ID is set, so S3_ENCRYPTION must be aws:kms"),
            ({"S3_BUCKET_KEY": "true", "S3_ENCRYPTION": "AES256"}, "S3_BUCKET_KEY is set, so"),
            ({"S3_ENCRYPTION": "aws:kms", "S3_KMS_KEY_ID": "a\r\nb: c"}, "match pattern"),
            ({"S3_ACL": "mine"}, "bucket-owner-full-control"),
            ({"S3_STORAGE_CLASS": "glacier"}, "match pattern"),
            ({"S3_TAGS": "project"}, "write up to 10 tags"),
            ({"S3_TAGS": "a=1&a=2"}, "with different keys"),
            ({"S3_TAGS": "&".join(f"k{n}=v" for n in range(11))}, "write up to 10 tags"),
            ({"S3_BUCKET_OWNER": "12345"}, "match pattern"),
        ):
            with self.subTest(variables=variables), patch.dict(os.environ, variables):
                with self.assertRaisesRegex(ValidationError, words):
                    UploadSettings()

    def test_a_job_elsewhere_gets_them_and_a_user_cannot_set_them(self):
        with patch.dict(os.environ, ALL):
            settings = S3Settings()
        with patch.dict(os.environ, settings.environment()):
            self.assertEqual(S3Settings(), settings)
        self.assertLessEqual(set(ALL), set(settings.environment()))
        self.assertEqual(S3Settings().environment(), {})
        for name in ALL:
            self.assertTrue(is_administrators(name), name)
        self.assertLessEqual(set(ALL), shared_variables())
