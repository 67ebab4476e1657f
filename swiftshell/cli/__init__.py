"""The command line: one file per verb (`add_arguments(parser)`, `run(args) -> Result`); only the chosen one is imported."""
