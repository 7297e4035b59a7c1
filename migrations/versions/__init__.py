"""One module a step; see :mod:`nursecare_chat.migrations`."""
