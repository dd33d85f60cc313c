"""Which examples property tests draw: the same ones each time, so that a red run is due to what was changed.

The nightly run draws others each time, in many rounds, and prints how to repeat one that fails.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("usual", derandomize=True, deadline=None)
settings.register_profile("others", print_blob=True, deadline=None)
draws_others = {"MITOFRAME_NIGHTLY", "MITOFRAME_OTHER_EXAMPLES"} & os.environ.keys()
settings.load_profile("others" if draws_others else "usual")
