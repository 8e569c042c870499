"""The project's own figures, and the studies behind its decisions: python -m tinyvit.studies.figures; no part of the product."""
