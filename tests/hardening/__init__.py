"""What somebody else planted, and what somebody else sends."""
