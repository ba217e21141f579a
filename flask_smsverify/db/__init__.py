"""The tables of this package, and the transactions that read and write them."""
