"""DLMS/COSEM (IEC 62056) without I/O: data, framing, APDUs, security, associations. See DESIGN.md here."""
