"""Tests of jobs on a Slurm cluster."""
