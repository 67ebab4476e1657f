"""The command line: one file per verb with `add_arguments(parser)` and `run(args) -> Result`, imported when chosen."""
