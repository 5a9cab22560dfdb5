"""Where images come from: photographs inside installed packages, files in a folder or zip, data sets on the hub.

Here belongs reading and cutting them; values come out in [-1, 1], shape (N, 3, S, S).
Not here: captions, styles and augmentation, which belong to training (`train`).
"""
