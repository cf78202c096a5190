"""Tests of the steps of the data transfer job."""
