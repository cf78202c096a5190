"""The commands of the data transfer job."""
