"""Play recorded conversations through the HTTP endpoints and compare the stored sessions."""
