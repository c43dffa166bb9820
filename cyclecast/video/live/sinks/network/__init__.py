"""Network outputs: frames are encoded and sent to a server in a process of its own, which may hang or die."""
