//! From the store to a plan, and from an accepted plan to jobs and allocations.
