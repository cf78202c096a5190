"""Tests of threads, processes and deadlines."""
