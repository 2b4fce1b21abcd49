"""Guards over the rankers that serve: drift, calibration, and how well live traffic is told apart."""
