"""Measuring how long artifacts take to answer.

measure         measures several artifacts and returns one record
config          what to measure
workload        an artifact that is open in an engine, and the queries that it can answer
combinations    every combination of artifact, engine, thread count and batch
timing          the latencies of all workloads, and their ratios
scenarios       how queries arrive, in the terms of MLPerf Inference
interleave      running several workloads alternately in one process
percentiles     percentiles that are not claimed beyond what the samples support
cold_start      import, load and first inference in a new process
result_details  the kernels that ran and the cold start, added to the results
interference    what else disturbed the machine during a measurement
roofline        the highest rates that the machine reaches
baselines       other tools beside an artifact
"""
