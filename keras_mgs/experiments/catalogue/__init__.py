"""Every experiment: its settings, each declared once, and its presets, without TensorFlow."""
