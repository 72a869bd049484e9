"""``dossr-bench accuracy``: compare the images of a bundle with sharp originals."""
