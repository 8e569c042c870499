"""Reports from records: an HTML page, Markdown, CSV, and text for the terminal.

rows.py             joins the latency and the accuracy of each artifact
contents.py         lists the notes and the tables of a report
tables.py           the tables about all records: summary, devices and settings
latency_tables.py   the tables of latencies
accuracy_tables.py  the tables of accuracies
charts.py           the charts of the page, as SVG
page.py             the HTML page
text_formats.py     Markdown and CSV
console.py          what the commands print
"""
