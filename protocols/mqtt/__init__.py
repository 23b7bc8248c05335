"""What meters and gateways publish over MQTT: topic and payload in, readings out. The wire is elsewhere."""
