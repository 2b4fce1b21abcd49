"""Wiring of simulations: the only place where the world, its truth and a real feed are put together."""
