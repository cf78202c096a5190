"""Tests of the metadata sources."""
