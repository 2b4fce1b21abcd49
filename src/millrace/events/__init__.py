"""The typed, versioned events that may be written to the log, and their codecs. Holds no state."""
