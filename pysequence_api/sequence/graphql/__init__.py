"""Sequence over the GraphQL interface of its web application (docs/upstream-graphql.md)."""
