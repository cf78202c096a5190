"""Builders for the tests of the client of slurmrestd."""

import base64
import json


def a_jwt(**claims) -> str:
    """Build a token that looks like Slurm's; it lasts until 2100 unless told otherwise."""
    parts = ({"alg": "HS256"}, {"sun": "some.user", "exp": 4_102_444_800} | claims)
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*coded, b"c2lnbmF0dXJl"]).decode()
