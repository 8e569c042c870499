"""Measuring the accuracy of artifacts on labeled images.

suite.py             measures several artifacts and makes the record
evaluate.py          classifies all images with one artifact
results.py           computes accuracies, intervals and the comparison with a reference
predictions.py       the predictions of one artifact, image by image
journal.py           keeps predictions in a file, so that an interrupted run can continue
cluster.py           predicts on many machines
hub.py               datasets of the Hugging Face Hub, beside those of `tinyvit.data`
preprocess_check.py  looks for preprocessing that fits the model better than the artifact's own
contact_sheet.py     draws the images that are classified wrongly
"""
