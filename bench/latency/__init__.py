"""Measures the latency of artifacts (exported model files) in their inference engines.

measure         measures several artifacts and returns one record
config          defines the options of a measurement
open_artifact   opens an artifact in an engine
queries         makes the functions to time: the network alone, or from image bytes to classes
combinations    opens every combination of artifact, engine, thread count and batch size
timing          times all combinations, and computes the ratios of their latencies
scenarios       decides when each query starts, as in the scenarios of MLPerf Inference
interleave      runs several workloads alternately in one process
percentiles     computes percentiles, and reports them only if there are enough samples
cold_start      times a new process that imports an engine, opens an artifact and runs it once
result_details  adds facts about the executed kernels, and the cold start, to the results
interference    detects disturbances, such as other processes and overheating
roofline        measures the peak compute and memory rates of the machine
baselines       times other tools and models alternately with an artifact
benchmark_tools describes the benchmark programs that come with the engines
"""
