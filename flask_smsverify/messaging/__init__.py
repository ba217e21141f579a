"""Everything that is told to a person beside codes. It knows no request and no Flask."""
