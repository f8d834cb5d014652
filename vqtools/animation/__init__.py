"""From one picture to many: keyframes, the camera, the animator, the octave zoom, sound, video files."""
