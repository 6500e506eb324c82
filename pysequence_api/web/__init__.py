"""What every HTTP listener shares: access checks, bounds, the request log, and errors as answers."""
