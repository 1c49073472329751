//! Servers.

use crate::routes;

routes! {}
