"""The steps of a data transfer job."""
