"""Slurm clusters of several nodes on one machine, each a slurmd of its own.

The nodes of `NodesCluster` share the loopback interface. Those of `LimitedCluster` have a network
namespace each, and send no faster than a limit: with them, two nodes send twice as fast as one.
"""

import contextlib
import os
import subprocess

from tests.support import free_port, slurm


class NodesCluster(slurm.SlurmCluster):
    """A cluster of several nodes: `node1`, `node2`, and so on.

    Parameters
    ----------
    nodes : int
        How many there are.
    **options
        Those of `SlurmCluster`; `cpus` and `memory` are those of each node.
    """

    def __init__(self, *, nodes: int = 2, **options) -> None:
        self.nodes = tuple(f"node{number}" for number in range(1, nodes + 1))
        self.node_daemons = tuple(f"slurmd-{node}" for node in self.nodes)
        super().__init__(**options)
        self.node = self.nodes[0]

    def node_lines(self, cpus: int, memory: int) -> str:
        """Describe the nodes, as slurm.conf does."""
        return "\n".join(
            f"NodeName={node} NodeHostname={self.host} {self.place_of(node)} CPUs={cpus} "
            f"RealMemory={memory} State=UNKNOWN"
            for node in self.nodes
        )

    def place_of(self, node: str) -> str:
        """Return address and port of a node, as slurm.conf has them."""
        return f"NodeAddr={self.address} Port={free_port()}"

    def prefix_of(self, node: str) -> list[str]:
        """Return what the command of a node's slurmd begins with."""
        return []

    def _recipes(self):
        recipes = super()._recipes()
        command, user, answers = recipes.pop("slurmd")
        for node, name in zip(self.nodes, self.node_daemons):
            recipes[name] = ([*self.prefix_of(node), *command[:-1], node], user, answers)
        return recipes


class LimitedCluster(NodesCluster):
    """A cluster whose nodes have network namespaces, and links that are limited by `tc`.

    Parameters
    ----------
    megabytes : float
        How many megabytes a second each node can send.
    **options
        Those of `NodesCluster`.
    """

    def __init__(self, *, megabytes: float, **options) -> None:
        self._rate = f"{round(8 * megabytes)}mbit"
        self._id = f"{os.getpid() % 100_000:05}"
        third = os.getpid() % 250
        self._net = f"10.251.{third}"
        self.address = f"{self._net}.1"
        super().__init__(**options)

    def place_of(self, node: str) -> str:
        """Return address and port of a node, as slurm.conf has them."""
        return f"NodeAddr={self._net}.{10 + self.nodes.index(node)}"

    def prefix_of(self, node: str) -> list[str]:
        """Return what puts a command into the namespace of a node."""
        return ["nsenter", f"--net=/run/netns/{self._namespace(node)}"]  # `ip` hides /sys/fs/cgroup

    def connect(self) -> None:
        """Make the network of the nodes: a bridge, and for each a link with a limit."""
        bridge = f"ts{self._id}"
        _run("ip", "link", "add", bridge, "type", "bridge")
        _run("ip", "addr", "add", f"{self.address}/24", "dev", bridge)
        _run("ip", "link", "set", bridge, "up")
        for number, node in enumerate(self.nodes):
            space, here, there = (f"{kind}{self._id}{number}" for kind in ("tn", "th", "tt"))
            _run("ip", "netns", "add", space)
            _run("ip", "link", "add", here, "type", "veth", "peer", "name", there)
            _run("ip", "link", "set", here, "master", bridge, "up")
            _run("ip", "link", "set", there, "netns", space)
            inside = ("ip", "netns", "exec", space)
            _run(*inside, "ip", "addr", "add", f"{self._net}.{10 + number}/24", "dev", there)
            _run(*inside, "ip", "link", "set", there, "up")
            _run(*inside, "ip", "link", "set", "lo", "up")
            limit = ("tbf", "rate", self._rate, "burst", "256kb", "latency", "100ms")
            _run(*inside, "tc", "qdisc", "add", "dev", there, "root", *limit)

    def stop(self) -> None:
        """End the daemons, and remove the network."""
        super().stop()
        for node in self.nodes:
            with contextlib.suppress(AssertionError):  # it was not made
                _run("ip", "netns", "del", self._namespace(node))
        with contextlib.suppress(AssertionError):
            _run("ip", "link", "del", f"ts{self._id}")

    def _namespace(self, node: str) -> str:
        return f"tn{self._id}{self.nodes.index(node)}"


def _run(*command: str) -> None:
    """Run a command of iproute2."""
    path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    done = subprocess.run(command, env=path, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
