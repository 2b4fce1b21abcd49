"""What is found out about the viewer, once per request."""
