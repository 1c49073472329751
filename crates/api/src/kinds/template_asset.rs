//! Files of OS templates.

use crate::routes;

routes! {}
