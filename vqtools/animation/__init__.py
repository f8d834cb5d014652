"""Engines that make many pictures from one: keyframed camera motion, octave zooms, morphs, flights, their folders."""
