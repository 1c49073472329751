//! Switches.

use crate::routes;

routes! {}
