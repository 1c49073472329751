//! What may be connected to what.

use crate::routes;

routes! {}
