"""Meters that publish over MQTT: messages in, readings out. The broker's connection is elsewhere."""
