"""Reading image data: the only code that walks folders and matches images to labels.

It needs numpy and Pillow only. Import from its modules:

    listing         the image files under a folder
    class_folders   folders with one subfolder per class, for training and validation
    truth_files     files that state the class of each image of a flat folder
    archives        images inside an uncompressed tar file
    dataset         labeled images from any of these, for measuring accuracy
    label_matching  class names of the data matched to the labels of a model
    image_sources   images for calibration: a folder, a list of paths or an array
    sampling        a reproducible order or subset that draws evenly from all classes
    decoding        a threaded map with bounded look-ahead
    batching        fixed-size batches, padded where images are missing
"""
