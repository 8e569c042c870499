"""Measuring artifacts. What is here knows nothing of how they were made."""
