"""Models at work: runners, dynamic batching, the vector index, hot reload."""
