"""What is kept on the disk: the limits ledger, the audit trail, and who is writing them."""
