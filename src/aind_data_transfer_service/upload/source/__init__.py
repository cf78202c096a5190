"""Scanning and reading of source files."""
