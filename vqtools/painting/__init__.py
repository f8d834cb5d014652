"""Painting: a picture is drawn towards words, a step at a time."""
