"""The WhatsApp Cloud API: signatures, payloads, media and sending."""
