"""The project's own figures, and the studies behind its decisions: python -m tinyvit.bench.study.figures; no part of the product."""
