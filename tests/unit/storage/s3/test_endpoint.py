"""Where requests go: the same place as botocore's, whatever is configured."""

import os
import re
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import botocore.config
import botocore.session

from aind_data_transfer_service.errors import DestinationError, TransferError
from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.slurm.batch_script import compose_environment
from aind_data_transfer_service.jobs.validation.checks import job_keys
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.storage.base import Conduct
from aind_data_transfer_service.storage.model import S3Keys, Window
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.storage.s3.http import Reply, Wire
from aind_data_transfer_service.storage.s3.retry import Fault, Kind
from tests.support import slow
from tests.support.scripted import OK, Scripted, refusal, reply

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
_ROLE = (
    b'{"AccessKeyId": "of-role", "SecretAccessKey": "s", "Token": "t", '
    b'"Expiration": "2099-01-01T00:00:00Z"}'
)
REGIONS = ("us-east-1", "eu-west-1")
LOADER = botocore.session.Session().get_component("data_loader")
"""Keeps what botocore's clients load, for all tests."""


class _Sent(Exception):
    """A request of botocore's was about to be sent."""


class EndpointTest(unittest.TestCase):
    """Gives each test an environment without AWS settings but those that it writes."""

    def setUp(self):
        """Forget this machine's own settings."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "S3_")) and not name.lower().endswith("_proxy")
        }
        environment |= {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.folder / "credentials"),
            "AWS_CONFIG_FILE": str(self.folder / "config"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.enterContext(patch.dict(os.environ, environment, clear=True))

    def configure(self, config="", **variables):
        """Write the configuration file and set variables."""
        (self.folder / "config").write_text(config)
        os.environ.update(variables)

    def configure_web_identity(self, proxy, **variables):
        """Have keys come from STS for a token, and all but the local servers reached by a proxy."""
        (self.folder / "token").write_text("token")
        self.configure(
            AWS_DEFAULT_REGION="eu-west-1",
            AWS_ROLE_ARN="arn:aws:iam::123456789012:role/lab",
            AWS_WEB_IDENTITY_TOKEN_FILE=str(self.folder / "token"),
            AWS_MAX_ATTEMPTS="1",
            https_proxy=proxy.url,
            no_proxy="127.0.0.1",
            **variables,
        )

    def open(self, bucket="bucket", **more):
        """Open a store as a job does."""
        return open_store("s3://", bucket, UploadSettings().s3_endpoint_url, **more)

    def ours(self, bucket, key="a/x y"):
        """Return the address and the signing region of our own request for an object."""
        sent = []

        def begin(wire, head, body, method, halt=None, **options):
            sent.append((wire.address, head.decode()))
            raise Fault(Kind.FINAL, "not sent")

        with patch.object(Wire, "begin", begin), self.assertRaises(DestinationError):
            self.open(bucket).get(key)
        ((address, head),) = sent
        self.assertIn(f"\r\nhost: {address.partition('//')[2]}\r\n", head)
        return address + head.split(" ")[1], _scope(head)

    def botocores(self, bucket, key="a/x y"):
        """Return the same of botocore's request."""
        session = botocore.session.Session()
        session.register_component("data_loader", LOADER)
        client = session.create_client("s3", config=botocore.config.Config())
        found = []

        def stop(request, **_):
            found.append((request.url, _scope(request.headers["Authorization"].decode())))
            raise _Sent

        client.meta.events.register("before-send.s3", stop)
        with self.assertRaises(_Sent):
            client.get_object(Bucket=bucket, Key=key)
        return found[0]


def _scope(text):
    """Read the region and the service that a request is signed for."""
    return re.search(r"Credential=key/\d+/([\w-]+/[\w-]+)/aws4_request", text)[1]


@slow
class TestSameAsBotocore(EndpointTest):
    """Configurations of all kinds."""

    def test_requests_go_where_botocore_sends_them(self):
        server = "http://127.0.0.1:5653/base"
        services = f"services = lab\n[services lab]\ns3 =\n  endpoint_url = {server}\n"
        other = "endpoint_url = http://127.0.0.1:1\n"
        arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/mine"
        for config, variables, bucket in (
            ("region = eu-west-1", {}, "bucket"),
            ("", {"AWS_DEFAULT_REGION": "us-west-2"}, "bucket"),
            ("", {"AWS_DEFAULT_REGION": "us-west-2"}, "bucket.with.dots"),
            ("", {"AWS_DEFAULT_REGION": "cn-north-1"}, "bucket"),
            ("", {"AWS_DEFAULT_REGION": "us-gov-west-1", "AWS_USE_FIPS_ENDPOINT": "true"}, "buck"),
            ("region = us-east-2\nuse_fips_endpoint = true", {}, "bucket"),
            ("region = us-east-2\nuse_dualstack_endpoint = true", {}, "bucket"),
            ("region = us-east-2", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "bucket"),
            ("region = us-east-2\ns3 =\n  addressing_style = path", {}, "bucket"),
            ("region = us-east-2", {}, arn),
            ("region = us-east-2", {}, "mine-1a2b3c4d5e6f7g8h9i0jklmnop-s3alias"),
            (f"region = us-east-2\n{other}", {"AWS_ENDPOINT_URL_S3": server}, "bucket"),
            (f"region = us-east-2\nendpoint_url = {server}", {}, "bucket"),
            (f"region = us-east-2\n{other}{services}", {}, "bucket"),
            (
                f"region = us-east-2\n{other}",
                {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true", "AWS_ENDPOINT_URL": server},
                "bucket",
            ),
            (f"region = us-east-2\n{other}ignore_configured_endpoint_urls = true", {}, "bucket"),
            ("region = us-east-2", {"AWS_ENDPOINT_URL": server}, "bucket"),
            (
                "region = us-east-2",
                {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": server},
                "bucket",
            ),
            (
                "region = us-east-2\ns3 =\n  addressing_style = virtual",
                {"AWS_ENDPOINT_URL": "https://s3.lab.example:8443"},
                "bucket",
            ),
        ):
            with self.subTest(config=config, variables=variables, bucket=bucket):
                with patch.dict(os.environ, KEYS):
                    self.configure(f"[default]\n{config}\n", **variables)
                    self.assertEqual(self.ours(bucket), self.botocores(bucket))

    def test_keys_of_a_profile_are_not_sent_elsewhere_than_to_its_endpoint(self):
        server = Scripted([OK])
        self.addCleanup(server.stop)
        keys = "aws_access_key_id = key\naws_secret_access_key = secret\n"
        self.configure(f"[profile lab]\nregion = us-east-1\nendpoint_url = {server.url}\n{keys}")
        os.environ["AWS_PROFILE"] = "lab"
        self.assertEqual(self.open().put("a/x", b"1"), '"e"')
        self.assertTrue(server.requests[0].startswith(b"PUT /bucket/a/x HTTP/1.1"))

    def test_a_profile_has_no_say_if_the_keys_are_not_its_own(self):
        self.configure("[default]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:1\n")
        sent = []

        def begin(wire, *_, **options):
            sent.append(wire.address)
            raise Fault(Kind.FINAL, "not sent")

        with patch.object(Wire, "begin", begin), self.assertRaises(DestinationError):
            self.open(keys=S3Keys("key", "secret")).get("x")
        self.assertEqual(sent, ["https://bucket.s3.us-east-1.amazonaws.com"])

    def test_the_style_can_be_set_for_jobs_without_a_profile(self):
        self.configure(**KEYS, S3_ADDRESSING_STYLE="virtual", AWS_ENDPOINT_URL="http://s3.lab:9000")
        self.assertEqual(self.ours("bucket")[0], "http://bucket.s3.lab:9000/a/x%20y")

    def test_what_is_not_supported_is_refused_by_name(self):
        self.configure(**KEYS)
        for bucket, words in (
            ("data--usw2-az1--x-s3", "is a directory bucket .S3 Express One Zone"),
            ("arn:aws:s3::123456789012:accesspoint:mfzwi23gnjvgw.mrap", "kind sigv4a for s3"),
            ("arn:aws:s3:us-west-2:123456789012:nonsense/x", "no endpoint for the bucket"),
        ):
            with self.assertRaisesRegex(DestinationError, words):
                self.open(bucket)
        os.environ["AWS_USE_FIPS_ENDPOINT"] = "true"
        with self.assertRaisesRegex(DestinationError, "AWS_USE_FIPS_ENDPOINT .* is for Amazon's"):
            open_store("s3://", "bucket", "http://127.0.0.1:1")

    def test_a_configuration_that_cannot_be_parsed_is_named(self):
        self.configure("no section", **KEYS)
        with self.assertRaisesRegex(DestinationError, "AWS configuration cannot be read: .*config"):
            self.open()

    def test_rules_are_not_loaded_for_a_server_of_ones_own(self):
        self.configure(**KEYS)
        with patch("botocore.endpoint_provider.EndpointProvider", None):
            open_store("s3://", "bucket", "http://127.0.0.1:1")


class TestEndpointOfCredentials(EndpointTest):
    """Where keys are fetched."""

    @slow
    def test_sts_is_never_the_s3_server(self):
        proxy, server = Scripted(lambda _: reply(403)), Scripted([OK])
        for each in (proxy, server):
            self.addCleanup(each.stop)
        self.configure_web_identity(proxy, AWS_ENDPOINT_URL=server.url)
        with self.assertRaisesRegex(DestinationError, "no AWS credentials could be had"):
            self.open()
        self.assertEqual(server.requests, [])
        self.assertIn(b"CONNECT sts.eu-west-1.amazonaws.com:443 ", proxy.requests[0])

    @slow
    def test_an_endpoint_of_sts_alone_is_used(self):
        answer = (
            b"<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
            b"<AccessKeyId>of-sts</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t"
            b"</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            b"</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
        sts, server = Scripted(lambda _: reply(200, answer)), Scripted([OK])
        for each in (sts, server):
            self.addCleanup(each.stop)
        (self.folder / "token").write_text("token")
        self.configure(
            AWS_ENDPOINT_URL=server.url,
            AWS_ENDPOINT_URL_STS=sts.url,
            AWS_ROLE_ARN="arn:aws:iam::123456789012:role/lab",
            AWS_WEB_IDENTITY_TOKEN_FILE=str(self.folder / "token"),
        )
        self.open().put("a/x", b"1")
        self.assertIn(b"Credential=of-sts/", server.requests[0])


class TestWhoseEndpoint(EndpointTest):
    """A profile that nobody named, in the home folder, and keys that are not its own."""

    def setUp(self):
        """Have a configuration file where AWS's tools look for it by themselves."""
        super().setUp()
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            del os.environ[name]
        os.environ["HOME"] = str(self.folder)
        (self.folder / ".aws").mkdir()
        self.told = []
        self.other = self.serve(refusal(400, "ExpiredToken"))
        self.configure_home(f"[default]\nendpoint_url = {self.other.url}\n")

    def serve(self, answer):
        """Start a server."""
        server = Scripted(lambda _: answer)
        self.addCleanup(server.stop)
        return server

    def configure_home(self, config):
        """Write the file."""
        (self.folder / ".aws" / "config").write_text(config)

    def address(self, **more):
        """Return where a request of a store is sent."""
        sent = []

        def begin(wire, *_, **options):
            sent.append(wire.address)
            raise Fault(Kind.FINAL, "not sent")

        with patch.object(Wire, "begin", begin), self.assertRaises(DestinationError):
            self.open(conduct=Conduct(tell=self.told.append), **more).get("x")
        return sent[0]

    def test_keys_of_the_environment_do_not_follow_a_profile_that_nobody_named(self):
        amazon = "https://bucket.s3.us-east-1.amazonaws.com"
        with patch.dict(os.environ, KEYS):
            self.assertEqual(self.address(), amazon)
        self.assertRegex(
            self.told[0],
            r'profile "default" in .*/\.aws/config is not used, .* environment; to use',
        )
        self.assertEqual(self.address(keys=S3Keys("key", "secret")), amazon, "as the checks do")

    @slow
    def test_they_follow_a_profile_that_the_environment_names_as_botocore_does(self):
        file = str(self.folder / ".aws" / "config")
        for name, value in (("AWS_PROFILE", "default"), ("AWS_CONFIG_FILE", file)):
            with self.subTest(name), patch.dict(os.environ, {**KEYS, name: value}):
                self.assertEqual(self.address(), self.other.url)
                self.assertEqual(self.ours("bucket"), self.botocores("bucket"))
        self.assertEqual(self.told, [])

    def test_a_job_on_a_cluster_goes_where_the_check_of_the_service_went(self):
        hpc = HpcSettings(
            host="slurm",
            username="lab",
            token="t",
            logging_directory="/logs",
            current_working_directory="/work",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )
        for agreed in ({}, {"AWS_ENDPOINT_URL": "http://s3.lab:9000"}):
            with patch.dict(os.environ, agreed):
                checked = self.address(keys=job_keys(hpc))
            job = compose_environment(JobSpec("j", "n", request="{}"), hpc, agreed)
            with patch.dict(os.environ, {**job, "HOME": str(self.folder)}, clear=True):
                self.assertEqual(self.address(), checked)

    def test_the_keys_of_a_machine_do_not_follow_it_either(self):
        os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = self.serve(reply(200, _ROLE)).url
        self.assertEqual(self.address(), "https://bucket.s3.us-east-1.amazonaws.com")
        self.assertIn("the AWS keys come from the role of the machine", self.told[0])

    @slow
    def test_keys_of_the_profile_are_not_replaced_by_those_of_the_machine(self):
        keys = self.folder / ".aws" / "credentials"
        keys.write_text("[default]\naws_access_key_id = key\naws_secret_access_key = secret\n")
        store = self.open(conduct=Conduct(0.3, tell=self.told.append))
        keys.unlink()
        os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = self.serve(reply(200, _ROLE)).url
        with self.assertRaisesRegex(TransferError, "ExpiredToken; .* their source has none now"):
            store.put("a/x", b"1")
        self.assertNotIn(b"Credential=of-role/", b"".join(self.other.requests))

    def test_a_token_of_the_environment_is_not_sent_to_the_sts_of_the_profile(self):
        sts, proxy = self.serve(reply(403)), self.serve(reply(403))
        self.configure_home(
            f"[default]\nservices = lab\n[services lab]\nsts =\n  endpoint_url = {sts.url}\n"
        )
        self.configure_web_identity(proxy)
        with self.assertRaisesRegex(DestinationError, "no AWS credentials could be had"):
            self.open()
        self.assertEqual(sts.requests, [])
        self.assertIn(b"CONNECT sts.eu-west-1.amazonaws.com:443 ", proxy.requests[0])


@slow
class TestRegion(EndpointTest):
    """A bucket that is elsewhere than configured."""

    def serve(self, refusals, seconds=20.0):
        """Open a store at a server that refuses each request that is not signed for eu-west-1."""
        refusals = iter(refusals)

        def answer(head):
            return OK if b"/eu-west-1/s3/" in head else next(refusals)

        self.server, self.told = Scripted(answer, by_head=True), []
        self.addCleanup(self.server.stop)
        self.configure(**KEYS)
        conduct = Conduct(seconds, tell=self.told.append)
        return open_store("s3://", "bucket", self.server.url, conduct=conduct)

    def test_the_region_that_a_refusal_names_is_followed(self):
        named = (
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
        )
        for refused in (
            refusal(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1"),
            refusal(307, "TemporaryRedirect", "x-amz-bucket-region: eu-west-1"),
            reply(400, b"", "x-amz-bucket-region: eu-west-1"),
            reply(400, named),
        ):
            with self.subTest(refused=refused):
                store = self.serve([refused])
                self.assertEqual(store.put("a/x", b"1"), '"e"')
                self.assertEqual(store.put("a/y", b"1"), '"e"')
                self.assertEqual(len(self.server.requests), 3, "asked for once")
                self.assertIn("the bucket is in eu-west-1, not in us-east-1", self.told[0])

    def test_all_requests_in_flight_follow(self):
        moved = refusal(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1")
        store = self.serve([moved] * 8)
        objects = ((f"a/{number}", b"x") for number in range(20))
        self.assertEqual(len(list(store.put_all(objects, Window(8)))), 20)

    def test_at_amazon_the_address_changes_too(self):
        asked = []

        def begin(wire, head, *_, **options):
            asked.append((wire.address, _scope(head.decode())))
            moved = Reply(301, {b"x-amz-bucket-region": b"eu-west-1"})
            done = Reply(200, {b"etag": b"e"})
            return SimpleNamespace(reply=lambda _: moved if "us-east-1" in wire.address else done)

        self.configure(**KEYS)
        store = self.open(conduct=Conduct(tell=lambda _: None))
        with patch.object(Wire, "begin", begin):
            store.put("a/x", b"1")
        places = [(f"https://bucket.s3.{r}.amazonaws.com", f"{r}/s3") for r in REGIONS]
        self.assertEqual(asked, places)

    def test_a_server_that_names_ever_other_regions_is_given_up(self):
        regions = (f"x-amz-bucket-region: r-{number}" for number in range(99))
        store = self.serve(refusal(301, "PermanentRedirect", region) for region in regions)
        with self.assertRaisesRegex(TransferError, "the bucket is in r-0.*given up after 4"):
            store.put("a/x", b"1")

    def test_a_region_that_is_none_is_not_followed(self):
        store = self.serve([refusal(301, "Moved", "x-amz-bucket-region: evil.example/")])
        with self.assertRaisesRegex(TransferError, "the bucket is in evil.example/"):
            store.put("a/x", b"1")
        self.assertEqual(len(self.server.requests), 1)
