"""Reading image data: finding image files, their classes, and batches for a network.

No other package lists folders of images or matches class names to labels. Only numpy and Pillow are
needed. Import from the modules:

    listing             the image files under a folder
    image_names         which file names are those of images, and which are ignored
    class_folders       folders with one subfolder per class, for training and evaluation
    class_folder_checks errors and notes about such folders
    splits              folders of training, validation and test images in a dataset
    truth_files         files that list the classes of images that are not in class folders
    archives            images inside an uncompressed tar file
    dataset             labeled images from any of these, for measuring accuracy
    dataset_matching    the classes of a dataset matched to the labels of a model
    label_matching      class names in the data matched to the labels of a model
    number_readings     numbers in the data read as labels or as numbers of classes
    calibration_images  images for calibration: a folder, a list of paths or an array
    sampling            a reproducible order or subset that draws evenly from all classes
    decoding            decoding of images in threads, ahead of their use
    batching            batches of a fixed size, with the last one padded
"""
