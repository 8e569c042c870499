"""Measures artifacts (exported model files) on another device, over ssh or adb.

bundle           collects the files to send: this package as a wheel, artifacts, images
process          runs programs with limits, and makes the error of a failed command
transport        copies files and runs commands: on this machine, or over ssh
session          sends the files, creates an environment, runs commands, reads results
android          Android over adb: runs an engine's benchmark program, since there is no Python
android_runners  the benchmark programs for Android, and how to read their output
"""
