"""Tests of scanning and reading."""
