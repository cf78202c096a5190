"""The tests: fast ones, those with real servers, and those with a browser."""

import signal

# A shell that starts them in the background has them ignore Ctrl-C; what they test does not.
signal.signal(signal.SIGINT, signal.default_int_handler)
