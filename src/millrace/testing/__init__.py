"""Shipped with the package: builders, fakes, strategies, contract suites. Never imported by serving code."""
