//! Jobs on a schedule.

use crate::routes;

routes! {}
