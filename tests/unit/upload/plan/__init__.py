"""Tests of the transfer plan."""
