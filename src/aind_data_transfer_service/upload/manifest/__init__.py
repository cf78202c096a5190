"""The manifest of an asset, and the journal it is written from."""
