"""What everything costs, beside a plain training step and beside a peer."""
