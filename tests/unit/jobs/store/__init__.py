"""Tests of the database of jobs."""
