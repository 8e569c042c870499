"""Measuring the latency and the accuracy of artifacts, however they were made."""
