"""One module for each row of the page, whose ``measure`` returns it."""
