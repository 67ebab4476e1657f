"""Recipe + facts → exactly what will run: inputs chosen with their reasons, parameters with their sources, problems."""
