"""The online service. Start at `home_pipeline.py`, which lists every stage of the home feed in order."""
