"""Signing in to Sequence: tokens, their cache, and the login in a browser (docs/upstream-graphql.md)."""
