"""Measures artifacts (exported model files) on another device, over ssh or adb.

arguments        defines the command-line arguments of tinyvit-bench device
bundle           collects the files to send: this package as a wheel, artifacts, images
process          runs programs with limits, and makes the error for a failed command
transport        copies files to a device and runs commands there: over ssh, or on this machine
config           defines the options of a measurement
environment      prepares a Python environment on the device
session          sends the files, runs commands in the environment, reads results
adb              accesses an Android device over adb
android          measures on Android with an engine's benchmark program, since it has no Python
android_runners  describes the benchmark programs for Android, and reads their output
runner_libraries finds the shared libraries that such a program needs for an NPU
"""
