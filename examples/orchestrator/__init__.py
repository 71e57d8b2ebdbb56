"""An agent object that works on tasks step by step, and has a store of its own."""
