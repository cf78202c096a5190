"""Tests of host names and certificates."""
