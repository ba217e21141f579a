"""The simulated gateways, one module or package for each."""
