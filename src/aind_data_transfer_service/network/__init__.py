"""Host names and trusted certificates."""
