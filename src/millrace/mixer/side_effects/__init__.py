"""What happens after the page has left."""
