"""Tests of the sources of metadata and of the documents."""
