//! Job functions of the Global Controller, a file each.

pub mod firmware_catalog_fetch;
pub mod infrastructure_finish;
pub mod server_finish_registration;
