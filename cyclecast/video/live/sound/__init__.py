"""Sound of a live run: from the source or a microphone into recordings and network outputs, in sync with the frames."""
