"""Verification: challenges, codes and proofs.

Read `verifier` first: it is the public API. `issue` holds the whole send of a code and `check` the
whole check, each from top to bottom. Nothing here knows Flask, a request or the configuration.
"""
