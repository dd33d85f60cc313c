"""Which examples property tests draw: the same ones each time, so that a red run is due to what was changed.

The nightly run draws others each time, and prints how to repeat one that fails.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("usual", derandomize=True, deadline=None)
settings.register_profile("nightly", print_blob=True, deadline=None)
settings.load_profile("nightly" if os.environ.get("MITOFRAME_NIGHTLY") else "usual")
