"""A crash on the devnet: many accounts over three chains, prices that fall within a minute, and what becomes of all."""
