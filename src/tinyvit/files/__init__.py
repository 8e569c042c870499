"""Files: safe reading and writing, locks, staging folders, and formats from untrusted sources."""
