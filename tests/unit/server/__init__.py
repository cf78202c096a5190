"""Tests of the service's routes, guards and words, with no network."""
