"""Measuring on another device: what is sent there, how it gets there, and what comes back.

bundle           the files that a device needs: this package as a wheel, artifacts, images
process          runs programs with limits, and explains why a command on a device failed
transport        copies files and runs commands: on this machine, or over ssh
session          one visit: creates an environment, runs this package's commands, reads results
android          Android over adb, where an engine's own benchmark program replaces Python
android_runners  these programs, and how to read their output
"""
