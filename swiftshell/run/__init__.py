"""The run directory: its layout, its files, and how they are written so that kill -9 never lies.

Standard library only: the runner is built on it.
"""
