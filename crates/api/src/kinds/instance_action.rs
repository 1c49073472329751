//! What an owner does to a server instance.

use crate::routes;

routes! {}
