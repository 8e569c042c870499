"""Rewrites of a network's graph that several targets share.

Passes of one target are in that target's own folder, `export/targets/<name>/passes.py`.
"""
