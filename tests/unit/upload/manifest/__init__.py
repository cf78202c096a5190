"""Tests of manifests and journals."""
