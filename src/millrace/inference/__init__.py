"""Trained networks at work: what they read is put together, they are run, and what they made of viewers is kept."""
