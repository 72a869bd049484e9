"""Upscales what clients of a server send: image files or raw arrays, one request after the other."""
