"""Rate limits: their notation, their arithmetic and the usage they count."""
