"""Pickles, which are read as plain records; nothing that they name is imported or called."""
