"""How long tests wait for what should come before they say that it does not."""

from __future__ import annotations

import os

VARIABLE = "TESTS_PATIENCE"

PATIENCE = float(os.environ.get(VARIABLE, "1"))
"""What each such wait is multiplied by: less, where most of what is waited for will not come."""
