"""Tests of source roots, links and excluded names."""
