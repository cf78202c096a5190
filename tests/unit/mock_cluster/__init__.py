"""Tests of the mock of the cluster, through HTTP."""
