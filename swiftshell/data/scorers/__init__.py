"""Score answers without a model of our own: against a reference, by rules, and by a judge behind an endpoint.

Every scorer gives each answer one number, higher for better, or None where a row lacks what it needs. What a scorer needs
of a file, of this machine or of a person is asked of all scorers before any of them runs.
"""
