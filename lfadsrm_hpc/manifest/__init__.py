"""What happened: claims, heartbeats and exit records as files, and their fold to a state."""
