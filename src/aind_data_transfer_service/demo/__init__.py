"""A first look: a sample session, sent through the whole service on this machine.

`session` writes the recording and `documents` its metadata; `service` runs the web service as a
process, `client` speaks to its public API, and `tour` puts them together. It uses nothing that a
visitor of the service could not.
"""
