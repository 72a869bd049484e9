"""``dossr-bench accuracy``: how close the images of a bundle are to originals."""
