"""One answer, from its source to its client, and the one end that it has."""
