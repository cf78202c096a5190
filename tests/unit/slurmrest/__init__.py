"""Tests of the client of slurmrestd."""
