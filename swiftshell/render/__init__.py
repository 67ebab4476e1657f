"""Turn facts into what a person sees on a terminal: plans, progress, tables, problems. rich is imported when needed."""
