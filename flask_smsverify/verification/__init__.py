"""Verification: challenges, codes and proofs.

Read `verifier` first: it is the public API. `issue` tells how a code is sent and `check` how it is
checked, each from top to bottom. Nothing here knows Flask, a request or the configuration.
"""
