"""The report: one self-contained page made from plain arrays."""
