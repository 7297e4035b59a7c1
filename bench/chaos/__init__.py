"""Everything that may go wrong around the chat, made to go wrong; see :mod:`.__main__`."""
