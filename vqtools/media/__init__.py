"""Pictures and videos: files, records, colour, optical flow. Knows nothing about networks."""
