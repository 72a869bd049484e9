"""Measure the rows of one of the paper's tables: count, compose or replay each system, and keep the results."""
