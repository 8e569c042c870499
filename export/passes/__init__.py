"""Passes (rewrites of a network's graph) that several targets share.

Passes of a single target are in that target's folder, `export/targets/<name>/passes.py`.
"""
