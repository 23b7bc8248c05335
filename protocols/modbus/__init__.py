"""Modbus register maps: what registers say, which to read, SunSpec, frames. The wire is the library's."""
