"""How an answer reads on the wire. Nothing of it is public yet."""
