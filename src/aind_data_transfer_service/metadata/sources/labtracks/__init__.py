"""LabTracks: subjects and procedures."""
