"""Bronze: Kafka's records as they came."""
