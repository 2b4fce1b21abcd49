"""The feature store: what is known of posts and users, declared once, read from the folded stores."""
