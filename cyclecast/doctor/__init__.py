"""What this machine has for cyclecast, and what to type for what is missing."""
