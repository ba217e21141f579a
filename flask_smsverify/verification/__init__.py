"""Verification: challenges, codes and proofs.

Read `verifier` first: it is the public API. `issue` contains the whole send of a code and `check`
the whole check, each from top to bottom. Nothing here depends on Flask, a request or the
configuration.
"""
