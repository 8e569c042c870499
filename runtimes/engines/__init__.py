"""One file an engine; see base.py for what such a file has. A new file here is a new engine: no list names them."""
