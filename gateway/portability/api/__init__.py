"""The pull API: recipients ask for what customers let them have, over TLS 1.3 with certificates on both sides."""
