"""A seeded viewer model that writes events, and an independent reference that says what they amount to."""
