"""Models as a server runs them: runners, batching, vector index, hot reload."""
