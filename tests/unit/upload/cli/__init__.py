"""Tests of the commands of the data transfer job."""
