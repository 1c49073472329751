//! `server.finish_registration`: a server becomes available.
