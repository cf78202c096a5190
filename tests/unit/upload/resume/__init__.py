"""Tests of locks and resuming."""
