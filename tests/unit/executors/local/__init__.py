"""Tests of jobs on this machine."""
