"""Marks: one price per underlying from the feeds of several chains."""
