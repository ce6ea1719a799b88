"""All runs of an experiment: their settings, their records, and who does them."""
