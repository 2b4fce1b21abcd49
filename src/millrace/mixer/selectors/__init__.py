"""Who gets onto the page."""
