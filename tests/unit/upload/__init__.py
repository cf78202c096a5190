"""Tests of the data transfer job."""
