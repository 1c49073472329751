//! Ports of switches.

use crate::routes;

routes! {}
