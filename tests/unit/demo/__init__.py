"""Tests of the sample session and of the tour that sends it."""
