"""Pages, tables and plots from stored results."""
