"""AWS Systems Manager and Secrets Manager on loopback, as moto plays them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import boto3

from tests.support import missing

KEYS = {
    "region_name": "us-east-1",
    "aws_access_key_id": "a",
    "aws_secret_access_key": "b",
}


@dataclass(frozen=True)
class ParameterServer:
    """A running server."""

    url: str
    server: Any

    def put(self, name: str, value: Any, kind: str = "SecureString") -> None:
        """Store a parameter; what is no text becomes JSON."""
        text = value if isinstance(value, str) else json.dumps(value)
        self.client("ssm").put_parameter(Name=name, Value=text, Type=kind, Overwrite=True)

    def client(self, service: str) -> Any:
        """Open a client of a service."""
        return boto3.client(service, endpoint_url=self.url, **KEYS)

    def stop(self) -> None:
        """End it, and forget everything."""
        self.server.stop()


def start(values: Mapping[str, Any] | None = None) -> ParameterServer:
    """Start a server that holds these parameters."""
    try:
        from moto.server import ThreadedMotoServer
    except ImportError:
        raise missing("moto (pip install moto[server])")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = ParameterServer(f"http://{host}:{port}", server)
    for name, value in (values or {}).items():
        found.put(name, value)
    return found
