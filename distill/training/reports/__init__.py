"""Writes reports about the predictions of a trained network on labeled images.

run_reports.py       writes the reports of a training run, and composes its last messages
evaluation_files.py  writes all files about one evaluation
class_accuracy.py    computes the accuracy of each class, as CSV and as a message
confusion_matrix.py  counts how often each class is predicted for each class, as CSV
confusion_chart.py   draws a confusion matrix
mistakes.py          draws a contact sheet of the most confident mistakes
class_names.py       makes unique names of classes that can be drawn
export_command.py    composes the command that exports the result of a run
"""
