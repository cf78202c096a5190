"""A sample session with its metadata, for a first run."""
