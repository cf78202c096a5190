"""The tests: fast ones, those with real servers, and those with a browser."""

import os
import signal

# A shell that starts them in the background has them ignore Ctrl-C; what they test does not.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What a Rust library cannot read ends in a panic: an error like any other, and no need of a trace.
os.environ["RUST_BACKTRACE"] = "0"
