"""How an answer reads on the wire."""
