"""Checks of an export: of the request before it, and of the artifact against the network."""
