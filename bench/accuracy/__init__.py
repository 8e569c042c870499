"""How right a file is: `assess` makes a record of its answers to labeled pictures.

datasets/            labeled pictures, wherever they are
answers.py           a file's answers, and the journal to go on from
cluster.py           the same from many machines
looked.py            answers -> what they come to, alone and beside a reference
preprocess_check.py  is the file fed the way it was trained?
contact_sheet.py     the pictures that are wrong
"""
