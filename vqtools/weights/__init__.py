"""Files of weights: the list of known networks, downloads, conversion, our own format, loading by name.

Knows files and networks; nothing about what networks are used for.
"""
