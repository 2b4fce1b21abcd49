"""What is found out about candidates."""
