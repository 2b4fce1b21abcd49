"""Versioned artefacts: what was trained, from what, how good it is, and which versions serve now, by one pointer."""
