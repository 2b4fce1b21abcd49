"""Models at work: runners, the vector index, hot reload. Nothing here trains; torch is imported in one file alone."""
