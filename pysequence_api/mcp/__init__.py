"""The Model Context Protocol at `/mcp`: the tools of an agent. `cli.mcp` forwards it over standard input."""
