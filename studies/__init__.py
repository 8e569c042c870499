"""Commands that make the project's figures and the measurements behind its decisions.

They are run as `python -m tinyvit.studies.NAME` and are not part of the product.
"""
