"""Numba kernels: arrays in, arrays out. No file, no object, no thread of their own."""
