"""Tests of a job's life."""
