"""The rules of proof. They know no request, no configuration object and no Flask."""
