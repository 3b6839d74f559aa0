"""Contagion and feedback: many accounts, a price path that forced sales push further, and who pays in the end."""
