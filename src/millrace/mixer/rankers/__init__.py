"""Predictions: P(action) for every head."""
