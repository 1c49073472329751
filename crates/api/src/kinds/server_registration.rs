//! Registration of servers.

use crate::routes;

routes! {}
