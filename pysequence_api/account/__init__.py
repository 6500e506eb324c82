"""What a caller may read of the account: names resolved, balances added up."""
