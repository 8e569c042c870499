"""Measures the accuracy of artifacts (exported model files) on labeled images.

suite.py             evaluates several artifacts and creates the record
evaluate.py          classifies all images of a dataset with one artifact
options.py           defines how an artifact is evaluated
results.py           computes accuracies, intervals and the comparison with a reference artifact
class_numbering.py   checks whether the class numbers of the data are those of the model
predictions.py       classifies images one by one or in chunks
journal.py           saves predictions to a file, so that an interrupted run can continue
cluster.py           classifies images on a Ray cluster
hub.py               reads labeled images from the Hugging Face Hub
preprocess_check.py  searches for preprocessing with a higher accuracy than the artifact's own
contact_sheet.py     draws misclassified images
"""
