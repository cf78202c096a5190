"""Tests of LabTracks."""
