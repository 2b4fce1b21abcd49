"""A world with known truth: people, follows, posts and what they do with them, deterministic from a seed.

Its first form writes the history that the demo is filled with. Nothing but `app` and `testing` may import it, and
nothing that serves or learns may read its truth (interests, qualities, probabilities).
"""
