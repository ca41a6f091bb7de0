"""Descriptions of clusters and machines, one TOML file a site."""
