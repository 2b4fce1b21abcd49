"""Who of thousands of candidates is worth the ranker's time."""
