"""Tests of the S3 client."""
