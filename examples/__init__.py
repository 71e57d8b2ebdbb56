"""Small real apps on flask-convstore."""
