"""Data: Minari data sets in and out, windows of them as training batches, collection."""
