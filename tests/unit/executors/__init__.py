"""Tests of what runs jobs."""
