"""Records -> a page, a table: what one would send to a customer. See page.py."""
