"""Worker processes, which make the artifacts of several targets at the same time."""
