"""Rules about who may stay, one rule a filter."""
