"""The data transfer job itself, run on the machine that can see the data."""
