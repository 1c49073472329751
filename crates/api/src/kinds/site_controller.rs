//! Site Controllers.

use crate::routes;

routes! {}
