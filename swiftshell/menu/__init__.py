"""The menu: every operation by arrow keys, in Chinese and English. It plans, starts and follows like the command line."""
