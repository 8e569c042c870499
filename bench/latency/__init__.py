"""Measures the latency of artifacts (exported model files) in their inference engines.

measure         measures several artifacts and returns one record
config          the options of a measurement
workload        opens an artifact in an engine, and makes the queries to time
combinations    opens every combination of artifact, engine, thread count and batch size
timing          times all combinations, and computes the ratios of their latencies
scenarios       how queries arrive, in the terms of MLPerf Inference
interleave      runs several workloads alternately in one process
percentiles     percentiles, reported only from enough samples
cold_start      times import, load and first inference in a new process
result_details  adds the executed kernels and the cold start to the results
interference    detects disturbances, such as other processes and throttling
roofline        measures the peak compute and memory rates of the machine
baselines       times other tools and models alternately with an artifact
"""
