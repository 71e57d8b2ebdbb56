"""One store in one Flask app: its state, its namespaces, and when a request ends."""
