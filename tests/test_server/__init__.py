"""A mock of a cluster's REST API, with a Dockerfile that serves it on port 3000."""
