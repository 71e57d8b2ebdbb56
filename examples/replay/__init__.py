"""Play recorded conversations through the HTTP endpoints and compare what is stored."""
