"""Speaking to slurmrestd: a client, and one internal form whatever dialect is spoken."""
