"""What every listener shares: keys, bounds, the request log, and errors as answers."""
