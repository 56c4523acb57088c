"""Measurements of the hot paths, each against a plain reading of the same computation."""
