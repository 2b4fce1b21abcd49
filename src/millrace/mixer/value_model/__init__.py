"""Predictions to value: weights, offset, the steps to the score, profiles of params."""
