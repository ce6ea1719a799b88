"""Records as tables and figures, beside the paper's numbers."""
