"""What models read, made in one place for serving and for training."""
