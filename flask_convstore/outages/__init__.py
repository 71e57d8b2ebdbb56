"""Going on while the store is away: circuit, journal, fallback and replay."""
