"""The verbs of the command line that train nothing: one module each, with a `main`."""
