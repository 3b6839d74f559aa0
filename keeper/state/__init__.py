"""Plain values that everything speaks in. Imports nothing else of this package."""
