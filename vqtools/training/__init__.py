"""Training: networks and pictures are handed in; no weights are loaded here."""
