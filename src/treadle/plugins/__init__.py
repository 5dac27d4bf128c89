"""Small Protocols for what can be replaced, and the entry-point loader that finds replacements by name."""
