"""The options of tinyvit-export, and what it prints."""
