"""What the rows share: clients, servers, stores, the page and its pictures."""
