-- Meters by their address: devices of an MQTT broker are known by it.
-- depends: 0002_keyring

CREATE INDEX meters_address ON meters (address) WHERE address IS NOT NULL;
