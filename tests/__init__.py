"""Tests: fast ones first, then against real servers, then in a real browser."""
