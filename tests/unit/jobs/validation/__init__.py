"""Tests of the checks of a job before it is accepted."""
