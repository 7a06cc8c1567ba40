"""Data: reading and writing Minari data sets, and windows of them as training batches."""
