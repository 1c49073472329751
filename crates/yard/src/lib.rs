//! The simulated datacenter: racks that speak the real protocols. Its parts stand beside this file and are wired here once the
//! world they share is complete; until then nothing of them is built.
