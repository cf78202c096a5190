"""Verification of stored assets."""
