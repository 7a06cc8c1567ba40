"""Comparison: several actors on the same seeds, with tables, a report and a plot."""
