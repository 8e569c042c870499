"""How fast a file is: `measure` makes a record of what was planned.

opened.py       a file that is open in an engine, and the queries it can be asked
scenarios.py    how queries come, as MLPerf names it
turns.py        files in turns in one process
percentiles.py  what samples say, and no more
cold.py         a new process
watch.py        what disturbed
roofline.py     what the machine reaches at most
rivals.py       other tools beside ours
"""
