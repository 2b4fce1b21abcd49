"""PyTorch networks: the ranker, the retrieval towers, the pre-ranker, the social encoder; their losses and exports."""
