"""The judge judged: checks that it measures what it says, each with a number. ``millrace simulate validate``."""
