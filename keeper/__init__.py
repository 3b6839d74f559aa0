"""Cross-chain margin, verifiable and kept: the off-chain half."""
