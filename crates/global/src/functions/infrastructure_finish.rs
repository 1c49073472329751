//! `infrastructure.finish`: what was planned is now deployed.
