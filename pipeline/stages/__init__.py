"""The four stages of DESIGN 5, one file each."""
