"""Everything that can open an artifact, in one explicit table."""
