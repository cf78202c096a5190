"""The environment of a service on a cluster, as people have it."""

SEED = {
    "HPC_HOST": "localhost",
    "HPC_PORT": "3000",
    "HPC_USERNAME": "some.user",
    "HPC_PASSWORD": "password",
    "HPC_TOKEN": "some_token",
    "HPC_PARTITION": "part",
    "HPC_SIF_LOCATION": "/dir/my_container.sif",
    "HPC_CURRENT_WORKING_DIRECTORY": "/hpc/working_dir",
    "HPC_LOGGING_DIRECTORY": "/hpc/logging_dir",
    "HPC_AWS_ACCESS_KEY_ID": "abc-123",
    "HPC_AWS_SECRET_ACCESS_KEY": "def-456",
    "HPC_AWS_DEFAULT_REGION": "us-west-2",
    "HPC_STAGING_DIRECTORY": "/hpc/staging_dir",
    "HPC_AWS_PARAM_STORE_NAME": "/param/store/name",
    "HPC_MINIMUM_CPUS_PER_NODE": "8",
    "HPC_MEMORY_PER_CPU": "8000",
    "HPC_NODES": "[1,1]",
    "HPC_TASKS": "1",
    "HPC_TIME_LIMIT": "360",
    "HPC_QOS": "dev",
}
"""As the seed text has them, but for quotes."""
