"""One file a format: what a file says of itself, read with no engine."""
