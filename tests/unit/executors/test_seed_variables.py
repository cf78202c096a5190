"""The variables of the seed text: each, changed alone, changes what reaches the cluster."""

import asyncio
import os
import re
import unittest
from unittest.mock import patch

from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.registry import make_client
from aind_data_transfer_service.executors.slurm.job_array import submission_of
from aind_data_transfer_service.settings.service import ServiceSettings
from tests.support.seed import SEED

OTHERS = {
    "HPC_HOST": ("cluster", "url", "http://cluster:3000"),
    "HPC_PORT": ("6820", "url", "http://localhost:6820"),
    "HPC_USERNAME": ("svc", "user", "svc"),
    "HPC_TOKEN": ("token-b7f3", "token", "token-b7f3"),
    "HPC_PARTITION": ("fast", "property partition", "fast"),
    "HPC_SIF_LOCATION": ("/other.sif", "command", "singularity exec --cleanenv /other.sif"),
    "HPC_CURRENT_WORKING_DIRECTORY": ("/w", "property current_working_directory", "/w"),
    "HPC_LOGGING_DIRECTORY": ("/l", "property standard_out", "/l/j.out"),
    "HPC_AWS_ACCESS_KEY_ID": ("AKIA", "variable AWS_ACCESS_KEY_ID", "AKIA"),
    "HPC_AWS_SECRET_ACCESS_KEY": ("s3cr3t", "variable AWS_SECRET_ACCESS_KEY", "s3cr3t"),
    "HPC_AWS_DEFAULT_REGION": ("eu-west-1", "variable AWS_DEFAULT_REGION", "eu-west-1"),
    "HPC_STAGING_DIRECTORY": ("/s", "variable STAGING_DIRECTORY", "/s"),
    "HPC_AWS_PARAM_STORE_NAME": ("/p", "variable AWS_PARAM_STORE_NAME", "/p"),
    "HPC_MINIMUM_CPUS_PER_NODE": ("2", "property minimum_cpus_per_node", 2),
    "HPC_MEMORY_PER_CPU": ("500", "property memory_per_cpu", 500),
    "HPC_NODES": ("[2,3]", "property nodes", [2, 3]),
    "HPC_TASKS": ("4", "property tasks", 4),
    "HPC_TIME_LIMIT": ("30", "property time_limit", 30),
    "HPC_QOS": ("night", "property qos", "night"),
}
"""Of each variable another value, where it shows, and as what."""


def what_reaches_the_cluster(**changes: str) -> dict[str, object]:
    """Compose what a cluster is asked and sent where one or the other variable is changed."""
    with patch.dict(os.environ, SEED | changes, clear=True):
        settings = ServiceSettings()
    client = make_client(settings.hpc)
    spec = JobSpec("j", "a job", request="{}")
    sent = submission_of(spec, settings.hpc, settings.agreed_environment())
    found = {f"property {name}": value for name, value in sent.properties.items()}
    found |= {f"variable {name}": value for name, value in sent.environment.items()}
    command = re.search(r"\bsingularity exec \S+ \S+", sent.script)
    found |= {
        "url": client.base_url,
        "user": settings.hpc.username,
        "token": asyncio.run(client.tokens.current()),
        "command": command[0] if command else "",
    }
    return found


class SeedVariablesTest(unittest.TestCase):
    """None of them is read and forgotten, but the password, which slurmrestd has no use for."""

    def test_every_variable_is_looked_at(self):
        self.assertEqual(SEED.keys() - OTHERS.keys(), {"HPC_PASSWORD"})

    def test_each_has_its_effect(self):
        usual = what_reaches_the_cluster()
        for variable, (value, place, expected) in OTHERS.items():
            with self.subTest(variable):
                found = what_reaches_the_cluster(**{variable: value})
                self.assertEqual(found[place], expected)
                self.assertNotEqual(usual[place], expected)

    def test_in_the_container_the_job_sees_the_same_variables(self):
        found = what_reaches_the_cluster()
        for name in ("STAGING_DIRECTORY", "AWS_PARAM_STORE_NAME", "AWS_DEFAULT_REGION"):
            self.assertEqual(found[f"variable SINGULARITYENV_{name}"], found[f"variable {name}"])

    def test_without_a_container_the_job_runs_as_it_is(self):
        self.assertEqual(what_reaches_the_cluster(HPC_SIF_LOCATION="")["command"], "")


if __name__ == "__main__":
    unittest.main()
