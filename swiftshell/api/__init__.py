"""The operations: everything a front can do. Menu, command line and Python are thin and equal on top of these."""
