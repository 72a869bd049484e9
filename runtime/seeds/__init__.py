"""Several draws of one image: sampled with what they share computed once, measured and compared."""
