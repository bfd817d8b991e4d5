"""Audits of data sets: duplicates, leaks between splits, shortcuts and other faults."""
