//! The state of everything in a few numbers.

use crate::routes;

routes! {}
