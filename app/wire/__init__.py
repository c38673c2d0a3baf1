"""The bytes of scored requests and their checked values; refusals explained."""
