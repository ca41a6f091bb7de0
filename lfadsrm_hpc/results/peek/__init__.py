"""A look at one run in a terminal: learning curve and rates as text."""
