"""Who may do what, how often and how much: keys, limits, and the gate that every request passes."""
