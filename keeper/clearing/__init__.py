"""Clearing: what acts do to an account, and what is closed when its margin is gone."""
