"""What a server or the network can do to a request, over real sockets."""

import hashlib
import os
import threading
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from aind_data_transfer_service.concurrency.transfer_budget import Traffic
from aind_data_transfer_service.errors import CancelledError, DestinationError, TransferError
from aind_data_transfer_service.storage.base import BufferBody, Conduct, Guard, PreconditionFailed
from aind_data_transfer_service.storage.model import Begun, Part, S3Keys
from aind_data_transfer_service.storage.multipart import agreed, composite_etag
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.probes import check_conditions
from aind_data_transfer_service.storage.s3 import connection
from aind_data_transfer_service.storage.s3.checksums import Algorithm
from aind_data_transfer_service.upload.manifest.journal import Journal
from aind_data_transfer_service.upload.resume.multipart_state import Ledger
from tests.support import free_port, slow
from tests.support.scripted import OK, Scripted, refusal, reply

KEYS = S3Keys("key", "secret", region="us-east-1")
MEBI = 1024**2
crc = Algorithm.CRC64NVME.of
UNKNOWN = refusal(501, "NotImplemented")


class FaultTest(unittest.TestCase):
    """Gives each test a server and a store that is quick to try again."""

    def setUp(self):
        """Forget this machine's own settings."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
        self.enterContext(patch.dict(os.environ, environment, clear=True))
        self.told = []

    def open(self, *replies, by_line=None, seconds=20.0):
        """Start the server and open a store at it."""
        self.server = Scripted(by_line or replies)
        self.addCleanup(self.server.stop)
        conduct = Conduct(seconds, tell=self.told.append)
        return open_store("s3://", "bucket", self.server.url, keys=KEYS, conduct=conduct)


class TestOneRequest(FaultTest):
    """One object, and one fault after another."""

    def test_a_server_that_closes_each_connection_does_no_harm(self):
        closing = OK[:-2] + b"Connection: close\r\n\r\n"
        store = self.open((closing,), (closing,))
        self.assertEqual([store.put("a/x", b"1"), store.put("a/y", b"2")], ['"e"', '"e"'])
        self.assertEqual(self.told, [])

    def test_many_idle_connections_that_the_server_closes_cost_one_further_attempt(self):
        """Not one for each of them, one within the other."""
        links = threading.Barrier(8)
        store = self.open(by_line=lambda line: (links.wait(20), OK)[1])
        callers = [threading.Thread(target=store.put, args=(f"a/{n}", b"1")) for n in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(20)
        self.server._reply = lambda line: OK if self.server.connections > 8 else (b"",)
        sent, send = [], connection.Connection.send
        with patch.object(connection.Connection, "send", lambda *a: (sent.append(a), send(*a))[1]):
            self.assertEqual(store.put("a/x", b"1"), '"e"')
        self.assertEqual((len(sent), self.server.connections), (2, 9))
        self.assertEqual(self.told, [])

    def test_a_new_connection_that_the_server_closes_unanswered_is_a_fault(self):
        store = self.open(OK, (b"",), (b"",), OK)
        store.put("a/x", b"1")
        self.assertEqual(store.put("a/y", b"2"), '"e"')
        self.assertEqual(len(self.server.requests), 4)
        self.assertIn("a request is tried again: the connection broke", self.told[0])

    def test_only_amazons_own_rate_is_kept_to(self):
        for url, rate in (
            (None, 3500),
            ("https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com", 3500),
            ("https://s3.cn-north-1.amazonaws.com.cn", 3500),
            ("http://amazonaws.com.example.org", None),
            ("http://127.0.0.1:9000", None),
        ):
            store = open_store("s3://", "bucket", url, keys=KEYS)
            self.assertEqual(store.requests_per_second, rate, url)

    @slow
    def test_what_passes_is_tried_again_and_told(self):
        for fault in (
            refusal(503, "SlowDown"),
            refusal(500, "InternalError"),
            refusal(400, "BadDigest"),
            reply(502, b"<html>"),
            (b"",),
            (b"HTTP/1.1 200 OK\r\nETag: ",),
            (b"nonsense\r\n\r\n",),
            reply(200),
        ):
            with self.subTest(fault=fault):
                self.assertEqual(self.open(fault, OK).put("a/x", b"1"), '"e"')
                self.assertEqual(len(self.server.requests), 2)
                self.assertRegex(self.told[-1], "^a request is tried again: ")

    def test_a_connection_that_was_closed_between_two_requests_is_no_fault(self):
        store = self.open((OK,), OK)
        store.put("a/x", b"1")
        store.put("a/y", b"2")
        self.assertEqual(self.told, [])

    @slow
    def test_a_stall_is_broken_off(self):
        self.assertEqual(self.open(None, OK, seconds=2.0).put("a/x", b"1"), '"e"')
        self.assertIn("no byte moved", self.told[0])

    def test_a_server_that_says_how_long_to_wait_is_given_that_time(self):
        date = "Date: Mon, 21 Sep 2026 16:13:20 GMT"
        for headers, least in (
            (["Retry-After: 1"], 1.0),
            ([date, "Retry-After: Mon, 21 Sep 2026 16:13:21 GMT"], 1.0),
            ([date, "Retry-After: soon"], 0.0),
            (["Retry-After: Mon, 21 Sep 2026 16:13:21 GMT"], 0.0),
        ):
            with self.subTest(headers=headers):
                store, waits = self.open(refusal(503, "SlowDown", *headers), OK), []
                wait = lambda seconds, halt: waits.append(seconds)  # noqa: E731
                with patch("aind_data_transfer_service.storage.s3.retry._wait", wait):
                    store.put("a/x", b"1")
                self.assertTrue(least <= waits[0] <= least + 0.2, waits)

    def test_a_key_that_is_not_known_yet_is_tried_again(self):
        store = self.open(refusal(403, "InvalidAccessKeyId"), OK)
        self.assertEqual(store.put("a/x", b"1"), '"e"')

    def test_the_clock_of_the_server_is_followed(self):
        date = "Date: Mon, 21 Sep 2026 16:13:20 GMT"
        self.open(refusal(403, "RequestTimeTooSkewed", date), OK).put("a/x", b"1")
        self.assertIn(b"x-amz-date: 20260921T161", self.server.requests[1])

    def test_what_nothing_helps_against_is_told_at_once(self):
        with self.assertRaisesRegex(TransferError, "not allowed to write s3://bucket/a/x: Access"):
            self.open(refusal(403, "AccessDenied")).put("a/x", b"1")
        with self.assertRaisesRegex(TransferError, 'no bucket "bucket"'):
            self.open(refusal(404, "NoSuchBucket")).put("a/x", b"1")
        with self.assertRaisesRegex(TransferError, "^not allowed .*: ExpiredToken$"):
            self.open(refusal(403, "ExpiredToken")).put("a/x", b"1")

    @slow
    def test_a_network_that_damages_data_is_named(self):
        with self.assertRaisesRegex(TransferError, "3 times: the network or the server damages"):
            self.open(*[refusal(400, "BadDigest")] * 3).put("a/x", b"1")

    @slow
    def test_a_server_that_stays_away_is_given_up(self):
        address = f"http://127.0.0.1:{free_port()}"
        conduct = Conduct(0.5, tell=self.told.append)
        store = open_store("s3://", "bucket", address, keys=KEYS, conduct=conduct)
        with self.assertRaisesRegex(TransferError, f"no answer from {address}.*given up after"):
            store.put("a/x", b"1")

    def test_a_refusal_that_ends_with_its_connection_is_read(self):
        """As from Go's server, of a request without TLS to where TLS is spoken."""
        plain = (b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent HTTP to an HTTPS server.\n",)
        with self.assertRaisesRegex(TransferError, "answered 400: Client sent HTTP to an HTTPS"):
            self.open(plain).put("a/x", b"1")
        page = (b"HTTP/1.0 503 Unavailable\r\n\r\n<html>Out of order</html>",)
        self.assertEqual(self.open(page, OK).put("a/x", b"1"), '"e"')
        self.assertIn("the server answered 503 (1)", self.told[0])

    def test_a_reply_without_a_length_is_not_taken_for_whole(self):
        store = self.open((b"HTTP/1.0 200 OK\r\n\r\nhalf",), reply(200, b"whole"))
        self.assertEqual(store.get("a/x"), b"whole")

    def test_certificates_that_cannot_be_read_are_named(self):
        for bundle, words in (("/nowhere", "No such file"), (__file__, ".*no certificate")):
            with patch.dict(os.environ, {"AWS_CA_BUNDLE": bundle}):
                store = open_store("s3://", "bucket", "https://127.0.0.1:1", keys=KEYS)
                words = f"AWS_CA_BUNDLE is '{bundle}', which cannot be used: {words}"
                with self.assertRaisesRegex(TransferError, words):
                    store.put("a/x", b"1")

    def test_secrets_never_show(self):
        with self.assertRaises(TransferError) as caught:
            self.open(refusal(403, "AccessDenied")).put("a/x", b"1")
        self.assertNotIn("secret", str(caught.exception) + repr(KEYS))

    @slow
    def test_once_it_is_stopped_nothing_is_waited_for(self):
        halt = threading.Event()
        store = self.open(None)
        threading.Timer(0.1, halt.set).start()
        with self.assertRaises(CancelledError):
            store.put("a/x", b"1", halt=halt)

    @slow
    def test_a_conditional_write_whose_answer_got_lost_is_ours(self):
        there, mine = refusal(412, "PreconditionFailed"), reply(200, b"1", 'ETag: "e"')
        for condition, error in (
            ({"new": True}, FileExistsError),
            ({"if_match": '"d"'}, PreconditionFailed),
        ):
            store = self.open((b"",), there, mine)
            self.assertEqual(store.put("m", b"1", **condition), '"e"')
            with self.assertRaises(error):
                self.open(there, reply(200, b"2", 'ETag: "e"')).put("m", b"1", **condition)

    def test_a_condition_on_an_object_that_is_gone_is_refused(self):
        gone = refusal(404, "NoSuchKey")
        with self.assertRaises(PreconditionFailed):
            self.open(gone, gone).put("m", b"1", if_match='"d"')

    def test_conditional_writes_that_collide_are_repeated(self):
        collided = refusal(409, "ConditionalRequestConflict")
        self.assertEqual(self.open(collided, OK).put("m", b"1", if_match='"d"'), '"e"')

    def test_deleting_what_is_another_object_now_leaves_it(self):
        replaced = refusal(412, "PreconditionFailed")
        there, gone = reply(200, b"", 'ETag: "e"'), reply(404)
        self.assertEqual(self.open(replaced, there).delete_matching({"m": '"d"'}), ["m"])
        self.assertEqual(self.open(replaced, gone).delete_matching({"m": '"d"'}), [])
        self.assertEqual(self.open(reply(204)).delete_matching({"m": '"d"'}), [])
        self.assertEqual(self.open(refusal(404, "NoSuchKey")).delete_matching({"m": '"d"'}), [])

    def test_a_server_without_conditional_deletion_is_asked_for_the_etag(self):
        unknown = refusal(501, "NotImplemented")
        other = reply(200, b"", 'ETag: "e"')
        self.assertEqual(self.open(unknown, other).delete_matching({"m": '"d"'}), ["m"])
        deleted = reply(200, b"<R><Deleted><Key>m</Key></Deleted></R>")
        self.assertEqual(self.open(unknown, other, deleted).delete_matching({"m": '"e"'}), [])

    def test_without_conditional_writes_etags_are_compared_before(self):
        there, mine = reply(200, b"0", 'ETag: "d"'), reply(200, b"1", 'ETag: "f"')
        store = self.open(there, OK, mine, there, there)
        store.conditional = False
        self.assertEqual(store.put("m", b"1", if_match='"d"'), '"f"')  # as it is served
        with self.assertRaises(PreconditionFailed):
            store.put("m", b"1", if_match='"c"')
        with self.assertRaises(FileExistsError):
            store.put("m", b"1", new=True)

    def test_a_server_that_refuses_conditions_is_found_by_preflight(self):
        gone = reply(200, b"<R><Deleted><Key>m</Key></Deleted></R>")
        store = self.open(by_line=lambda line: gone if b"POST" in line else UNKNOWN)
        with patch.object(store, "delete"):
            (warning,) = check_conditions(store, "asset")
        self.assertIn("does not support conditional writes", warning)
        self.assertFalse(store.conditional)

    def test_a_request_is_not_repeated_once_the_guard_forbids_it(self):
        store = self.open(OK, (b"",), OK)
        store.put("a", b"1")
        allowed = iter([True])

        class Lost(Guard):
            def check(self):
                if not next(allowed, False):
                    raise TransferError("the lease is lost")

        store.guard = Lost()
        with self.assertRaisesRegex(TransferError, "the lease is lost"):
            store.put("b", b"1")

    def test_lists_that_make_no_sense_are_asked_for_again(self):
        page = (
            b'<R xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>%s</IsTruncated>'
            b"<EncodingType>url</EncodingType>"
            b"<NextContinuationToken>t</NextContinuationToken><Contents><Key>a/%%2B+%s</Key><Size>1"
            b"</Size><ETag>&quot;e&quot;</ETag><LastModified>2026-01-01T00:00:00.000Z"
            b"</LastModified></Contents></R>"
        )
        store = self.open(
            reply(200, b"<R"),
            reply(200, page % (b"true", b"1")),
            reply(200, page % (b"false", b"2")),
        )
        found = list(store.objects("a"))
        self.assertEqual([item.key for item in found], ["a/+ 1", "a/+ 2"])
        self.assertEqual(found[0].etag, '"e"')
        self.assertIn(b"continuation-token=t", self.server.requests[2])

    def test_pieces_are_read_from_servers_of_every_kind(self):
        whole = reply(200, b"abcdef")
        for pieces in (
            [reply(206, b"abcd"), reply(206, b"ef")],
            [whole, whole],  # it knows no ranges
            [
                reply(200, b"abcd", "Content-Range: bytes 0-3/6"),
                reply(200, b"ef", "Content-Range: bytes 4-5/6"),
            ],
            [reply(206, b"abcd"), reply(206, b"efgh"), refusal(416, "InvalidRange")],
        ):
            found = b"".join(self.open(*pieces).read("a/x", 4))
            self.assertIn(found, (b"abcdef", b"abcdefgh"))
            self.assertEqual(len(self.server.requests), len(pieces))

    def test_a_server_that_knows_of_no_unfinished_uploads_has_none(self):
        self.assertEqual(list(self.open(refusal(404, "NoSuchUpload")).unfinished("a")), [])
        with self.assertRaisesRegex(DestinationError, "list unfinished uploads of .*Denied"):
            list(self.open(refusal(403, "Denied")).unfinished("a"))

    def test_objects_are_deleted_without_another_thread(self):
        with patch(
            "aind_data_transfer_service.concurrency.daemon_thread.start_thread", lambda *_: False
        ):
            left = self.open(reply(204), reply(204)).delete_matching({"m": '"d"', "n": '"e"'})
        self.assertEqual((left, len(self.server.requests)), ([], 2))

    def test_the_upload_of_a_trial_is_aborted_even_if_none_may_be_listed(self):
        begun = (
            b"<InitiateMultipartUploadResult><UploadId>u1</UploadId>"
            b"</InitiateMultipartUploadResult>"
        )
        answers = {b"POST": reply(200, begun), b"PUT ": refusal(400, "BadDigest")}
        answers |= {b"GET ": refusal(403, "AccessDenied"), b"DELE": reply(204)}
        store = self.open(by_line=lambda line: answers[line[:4]])
        self.assertTrue(store.refuses_damage("a/probe", True))
        aborted = [line for line in self.server.requests if line.startswith(b"DELETE")]
        self.assertEqual(len(aborted), 1)
        self.assertIn(b"uploadId=u1", aborted[0])
        self.assertIn("AccessDenied", self.told[-1])

    def test_what_could_not_be_deleted_is_told(self):
        failed = b"<DeleteResult><Error><Code>AccessDenied</Code></Error></DeleteResult>"
        with self.assertRaisesRegex(DestinationError, "cannot delete s3://bucket/a: AccessDenied"):
            self.open(reply(200, failed)).delete(["a"])

    @slow
    def test_a_list_of_what_to_delete_that_came_in_otherwise_is_sent_again(self):
        another = reply(200, b"<DeleteResult></DeleteResult>")
        done = reply(200, b"<DeleteResult><Deleted><Key>a&amp;b</Key></Deleted></DeleteResult>")
        self.open(another, done).delete(["a&b"])
        self.assertEqual(len(self.server.requests), 2)
        with self.assertRaisesRegex(DestinationError, "deleted something else than was asked"):
            self.open(*[another] * 3).delete(["a&b"])

    def test_a_store_without_delete_objects_is_asked_to_delete_one_by_one(self):
        def answer(line):
            if line.startswith(b"POST /bucket?delete"):
                return refused
            return refusal(404, "NoSuchKey") if b"/a/7 " in line else reply(204)

        keys = [f"a/{number}" for number in range(40)]
        for refused in (
            refusal(400, "InvalidArgument"),  # Google Cloud Storage
            refusal(501, "NotImplemented"),
            refusal(405, "MethodNotAllowed"),
            reply(501, b"<html>"),
        ):
            with self.subTest(refused=refused):
                store = self.open(by_line=answer)
                store.delete(keys)
                store.delete(["b"])
                lines = [request.split(b"\n")[0].decode() for request in self.server.requests]
                wanted = [f"DELETE /bucket/{key} HTTP/1.1" for key in (*keys, "b")]
                self.assertEqual(lines[0], "POST /bucket?delete= HTTP/1.1")
                self.assertEqual(sorted(lines[1:]), sorted(wanted))

    def test_what_a_store_refuses_to_delete_one_by_one_is_told(self):
        def answer(line):
            return refusal(501, "NotImplemented") if b"POST" in line else refusal(403, "Denied")

        with self.assertRaisesRegex(
            DestinationError, "not allowed to delete s3://bucket/a: Denied"
        ):
            self.open(by_line=answer).delete(["a"])

    def test_a_checksum_that_is_none_is_refused(self):
        with patch.dict(os.environ, {"AWS_CHECKSUM_ALGORITHM": "crc33"}):
            with self.assertRaisesRegex(DestinationError, 'is "CRC33"; write one of CRC64NVME'):
                self.open()

    def test_sha256_takes_the_place_of_the_other_checksum(self):
        with patch.dict(os.environ, {"AWS_CHECKSUM_ALGORITHM": "SHA256"}):
            store = self.open(OK, reply(200, b"1"))
            store.put("a/x", b"1")
            store.get("a/x")
        self.assertIn(b"x-amz-checksum-sha256: ", self.server.requests[0])
        for head, body in zip(self.server.requests, (b"1", b"")):  # no body travels unsigned
            digest = hashlib.sha256(body).hexdigest()
            self.assertIn(f"\nx-amz-content-sha256: {digest}\n".encode(), head)


class TestParts(FaultTest):
    """One object in parts."""

    BEGUN = reply(200, b"<R><UploadId>u</UploadId></R>")
    DONE = reply(200, b"<R><ETag>whole</ETag></R>")

    def put(self, *replies, parts=(b"1" * MEBI, b"2")):
        """Send an object of two parts, one after the other."""
        store = self.open(self.BEGUN, *replies)
        return store.put_parts("a/x", map(BufferBody, parts), MEBI, Traffic(1, 4 * MEBI))

    def methods(self):
        """Tell what was asked."""
        return [request.split(b" ")[0].decode() for request in self.server.requests]

    def test_a_part_is_tried_again(self):
        self.assertEqual(self.put(refusal(503, "SlowDown"), OK, OK, self.DONE), '"whole"')
        self.assertEqual(self.methods(), ["POST", "PUT", "PUT", "PUT", "POST"])

    def test_an_upload_that_nobody_remembers_is_removed_when_it_fails(self):
        with self.assertRaisesRegex(TransferError, "cannot write s3://bucket/a/x: EntityTooSmall"):
            self.put(refusal(400, "EntityTooSmall"), reply(204))
        self.assertEqual(self.methods()[-1], "DELETE")

    def test_an_error_within_a_200_is_one(self):
        error = reply(200, b"<Error><Code>InternalError</Code></Error>")
        self.assertEqual(self.put(OK, OK, error, self.DONE), '"whole"')

    def test_an_object_that_was_made_although_the_answer_got_lost_is_found(self):
        gone = refusal(404, "NoSuchUpload")
        etag = composite_etag([Part(1, 1, '"ee"', ""), Part(2, 1, '"ee"', "")])
        head = (f"HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {MEBI + 1}\r\n\r\n".encode(),)
        part = OK.replace(b'"e"', b'"ee"')
        self.assertEqual(self.put(part, part, (b"",), gone, head), f'"{etag}"')

    def test_a_request_to_make_it_that_came_in_damaged_is_sent_again(self):
        gone, listed = refusal(404, "NoSuchUpload"), reply(200, b"<ListPartsResult/>")
        self.assertEqual(self.put(OK, OK, gone, reply(404), listed, self.DONE), '"whole"')

    def test_an_object_that_an_earlier_job_had_made_is_found_by_its_parts(self):
        parts = [Part(1, MEBI, '"ee"', crc(b"1" * MEBI)), Part(2, 1, '"ee"', crc(b"2"))]
        etag = composite_etag(parts)
        lines = f"ETag: {etag}\r\nContent-Length: {MEBI + 1}"
        head = (f"HTTP/1.1 200 OK\r\n{lines}\r\n\r\n".encode(),)
        store = self.open(refusal(404, "NoSuchUpload"), head, head)
        folder = self.enterContext(TemporaryDirectory())
        page = Ledger(self.enterContext(Journal(Path(folder) / "journal"))).checkpoint_for(
            "x", "v1"
        )
        page.start("u", MEBI, "CRC64NVME")
        for part in parts:
            page.add_part("u", part)
        pieces = map(BufferBody, (b"1" * MEBI, b"2"))
        found = store.put_parts("a/x", pieces, MEBI, Traffic(1, 4 * MEBI), page)
        self.assertEqual(found, f'"{etag}"')
        self.assertEqual(self.methods(), ["GET", "HEAD", "HEAD"])

    def test_which_parts_may_have_arrived(self):
        noted = {n: Part(n, 5, f'"{n}"', "c") for n in (1, 2, 3, 4)}
        begun = Begun("u", 5, "CRC64NVME", "s", noted)
        listed = {
            1: Part(1, 5, '"1"', ""),
            2: Part(2, 5, '"other"', ""),
            3: Part(3, 5, '"3"', "d"),
            5: Part(5, 5, '"5"', ""),
        }
        self.assertEqual(agreed(begun, listed), {1: noted[1], 5: listed[5]})
