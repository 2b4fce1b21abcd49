"""Millrace: a stream of posts, follows and actions in, a ranked and explainable For You feed out."""

__version__ = "0.1.0"
