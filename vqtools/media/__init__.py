"""Pictures and videos as files: reading, writing, colour, optical flow. Knows nothing of networks."""
