"""Live capture: the loop that every tier works in, the tiers, and the choice among them."""
