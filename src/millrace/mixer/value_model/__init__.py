"""Predictions to value: weights, offset, multipliers."""
