"""Measuring on another device: what is sent there, how, and what comes back.

bundle.py     the files that go: this package as a wheel, artifacts, pictures
transport.py  how files and commands get there: this machine itself, or ssh
session.py    an environment there, the same commands as here, their JSON back
android.py    adb: no Python there, so an engine's own runner instead
"""
