"""The transfer plan: what will be sent, in which parts and shards."""
