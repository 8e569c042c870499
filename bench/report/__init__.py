"""Formats benchmark records as an HTML page, Markdown, CSV, or text for the terminal.

rows.py             joins the latency and the accuracy of each artifact (exported model file)
contents.py         lists the notes (failures and warnings) and the tables of a report
tables.py           creates the summary, device and settings tables
latency_tables.py   creates the latency tables
accuracy_tables.py  creates the accuracy tables
charts.py           draws the charts of the HTML page, as SVG
page.py             creates the HTML page
text_formats.py     creates Markdown and CSV
console.py          creates the text that the tinyvit-bench commands print
"""
