//! REST over TLS, as arrays speak it.
