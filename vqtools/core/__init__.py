"""The layer below everything else: settings, device, the job loop, files, paths, records, processes.

Knows nothing of pictures or networks. Importing it loads neither torch nor pydantic.
"""
