"""Text for people: printing without control characters, CSV, Markdown, and plurals."""
