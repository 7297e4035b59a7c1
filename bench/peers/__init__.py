"""The same chat, written the usual way: what ours is compared with.

Tables, rights and events are ours; the rest is what the libraries' own documentation shows, with the settings that
their users give them.
"""
