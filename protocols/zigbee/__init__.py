"""Zigbee as meters speak it: ZCL frames and the Metering cluster. No radio, no coordinator."""
