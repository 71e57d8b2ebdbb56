"""The tests. Real servers where it matters: Valkey from the wheel, Redis where it is installed."""
