"""The tests: unit tests, tests with real servers, and tests with a browser."""

import os
import signal

from hypothesis import HealthCheck, settings

from tests.support import campaign

# A shell that starts them in the background has them ignore Ctrl-C; what they test does not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a Rust library cannot read ends in a panic: an error like any other, and no need of a trace.
os.environ["RUST_BACKTRACE"] = "0"

# How long an example takes depends on what else the machine is doing.
settings.register_profile(
    "tests",
    settings(),
    max_examples=campaign(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tests")
