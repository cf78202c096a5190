"""Telling people how their jobs go: e-mail and webhook, per job and for the whole lab."""
