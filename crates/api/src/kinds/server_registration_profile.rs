//! Registration profiles.

use crate::routes;

routes! {}
