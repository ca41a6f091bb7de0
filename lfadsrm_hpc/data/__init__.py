"""Spikes in: datasets, readers, binning, alignment, LFADS input files, synthetic sessions."""
