//! global
