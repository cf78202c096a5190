"""The database of jobs."""
