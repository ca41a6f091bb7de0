"""Descriptions of machines and clusters: what one can say, where they lie, which one holds here."""
