"""Margin: what an account must hold for its positions, as a pure function of holdings, marks and parameters."""
