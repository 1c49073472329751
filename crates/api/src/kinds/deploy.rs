//! Deploy, revert, cancel.

use crate::routes;

routes! {}
