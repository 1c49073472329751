//! One-time tokens for Site Controllers.

use crate::routes;

routes! {}
