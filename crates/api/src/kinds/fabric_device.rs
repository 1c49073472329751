//! Switches and links of a fabric.

use crate::routes;

routes! {}
