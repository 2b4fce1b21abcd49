"""The ordered log of events. Knows offsets, topics and groups; knows nothing of what events mean."""
