"""Images: reading and writing files, colour fixes, padding."""
