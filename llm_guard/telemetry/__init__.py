"""Watching, and being watched: what others measure, and what they are told; each module in its own extra, or none."""
