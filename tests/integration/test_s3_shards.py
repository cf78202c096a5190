"""Shards of one asset against a real S3 server on loopback (SeaweedFS)."""

import os
import uuid
from unittest.mock import patch

from tests.support import seaweedfs
from tests.unit.upload.plan import test_shards

_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end


class _OnS3(test_shards.ShardTestCase):
    """Gives each test a bucket of its own."""

    destination = "s3://"

    def setUp(self):
        """Make the bucket."""
        self.enterContext(patch.dict(os.environ, _server.env))
        self.endpoint_url = _server.endpoint_url
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        super().setUp()


class S3TogetherTest(_OnS3, test_shards.TogetherTest):
    """Shards that do their part."""


class S3BrokenOffTest(_OnS3, test_shards.BrokenOffTest):
    """Shards that do not."""
