"""Which files a job may read: source roots, links, and names that are never uploaded."""
