//! What sites found out, written into the rows of equipment.
