//! Credentials tried for BMCs that nobody named.

use crate::routes;

routes! {}
