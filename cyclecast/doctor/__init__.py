"""What this machine has for cyclecast, and which command installs or repairs what is missing."""
