"""Measuring on another device: what is sent there, how it gets there, and what comes back.

bundle     the files that a device needs: this package as a wheel, artifacts, images
transport  runs commands and copies files: on this machine, or over ssh
session    one visit: creates an environment, runs the commands of this package, reads results
android    Android over adb, where an engine's own benchmark program runs instead of Python
"""
