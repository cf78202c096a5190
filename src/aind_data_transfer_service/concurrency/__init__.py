"""Threads, processes, deadlines and cancellation."""
