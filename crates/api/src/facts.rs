//! What sites must know, made from rows and put into their snapshots.
