"""Learning within seconds: from each impression, over the ranker that serves."""
