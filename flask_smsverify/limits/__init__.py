"""Rate limits: what a send or a guess counts against, and the log that they are counted from."""
