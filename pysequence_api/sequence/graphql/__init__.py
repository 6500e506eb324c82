"""Sequence over the GraphQL API of its web application."""
