"""The page of HTML about a run collection."""
