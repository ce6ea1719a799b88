"""Networks, methods, and one training with them."""
