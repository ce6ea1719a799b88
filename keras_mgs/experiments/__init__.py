"""Experiments of the command line: data, models, training runs and their tables and figures."""
