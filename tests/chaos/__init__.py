"""Real processes, real kills, real disks: what the promises are worth when nobody simulates anything."""
