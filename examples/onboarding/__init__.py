"""An onboarding agent whose state is a dataclass in a mapping of its own."""
