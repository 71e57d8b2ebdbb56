"""The routes as an OpenAPI document."""
