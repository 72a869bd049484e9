"""Images: files, colour fixes, padding, and the files of a run."""
