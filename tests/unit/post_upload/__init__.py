"""Tests of what follows an upload."""
