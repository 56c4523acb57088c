"""Prepared data: where it lies, how it gets there, and how crops of it reach a network."""
