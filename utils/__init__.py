"""The scripts of the data preparation, and the lists that users extend."""
