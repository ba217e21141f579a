"""What the tests make up that send an app anything at all."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

#: For tests in which one app serves every example.
shared_app = settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def json_values(*likely: Any) -> st.SearchStrategy[Any]:
    """Anything that JSON can say.

    :param likely: what the code under test may know, to be tried more often.
    """
    leaves = (
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20)
    )
    return st.recursive(
        leaves | st.sampled_from(likely) if likely else leaves,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    )
