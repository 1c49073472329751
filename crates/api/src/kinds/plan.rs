//! Plans of infrastructures.

use crate::routes;

routes! {}
