"""Locks, leases and the state that an interrupted job resumes from."""
