"""Programs that measure one state of the repository, each in a process of its own.

A program is started by its path, and PYTHONPATH names the state. So each uses only names that every
state has. Its last line is a JSON object with the numbers, and the file of the package tinyvit.
"""
