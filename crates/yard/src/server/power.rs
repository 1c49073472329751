//! The power button: switches on and off, restarts, and starts the boot task.

use std::{sync::Arc, time::Duration};

use super::{Server, Stage, boot};
use crate::world::World;

/// Time in which a running system shuts down.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// Switches on. `false` when it was on already.
pub fn on(world: &Arc<World>, server: &Arc<Server>) -> bool {
    if server.with(|state| state.kept.on) {
        return false;
    }
    start(world, server, "power on");
    true
}

/// Starts the boot task of a server that is on from now.
pub fn start(world: &Arc<World>, server: &Arc<Server>, why: &str) {
    let (generation, token) = server.with(|state| {
        state.task.cancel();
        state.task = world.shutdown.child_token();
        state.was_on = state.kept.on;
        state.kept.on = true;
        state.kept.os = None;
        state.generation += 1;
        state.log.clear();
        state.tty.reset();
        state.enter(Stage::Post);
        state.sel("OK", format!("System power state: {why}"));
        (state.generation, state.task.clone())
    });
    world.changed();
    world.events.push(&server.spec.serial, "power", why);
    crate::bmc::events::power(world, server, true);
    let run = boot::Run { world: world.clone(), server: server.clone(), generation };
    world.tasks.spawn(async move {
        tokio::select! { () = token.cancelled() => {}, () = boot::sequence(&run) => {} }
    });
}

/// Cuts the power. `false` when it was off already.
pub fn off(world: &Arc<World>, server: &Arc<Server>, why: &str) -> bool {
    let was_on = server.with(|state| {
        if !state.kept.on {
            return false;
        }
        state.task.cancel();
        state.was_on = true;
        state.kept.on = false;
        state.kept.os = None;
        state.generation += 1;
        state.console(why);
        state.enter(Stage::Off);
        state.sel("OK", format!("System power state: {why}"));
        true
    });
    if was_on {
        world.changed();
        world.events.push(&server.spec.serial, "power", why);
        crate::bmc::events::power(world, server, false);
    }
    was_on
}

/// Off and on again.
pub fn restart(world: &Arc<World>, server: &Arc<Server>, why: &str) {
    server.with(|state| state.task.cancel());
    start(world, server, why);
}

/// Presses the power button. Only a running system or installer reacts; `false` when nothing does.
pub fn shutdown(world: &Arc<World>, server: &Arc<Server>, then_on: bool) -> bool {
    let generation = server.with(|state| {
        if !matches!(state.stage, Stage::OsUp | Stage::Agent) {
            state.console("power button pressed; nothing reacts");
            return None;
        }
        state.enter(Stage::ShuttingDown);
        Some(state.generation)
    });
    let Some(generation) = generation else { return false };
    let (world, server) = (world.clone(), server.clone());
    world.clone().tasks.spawn(async move {
        tokio::select! { () = world.shutdown.cancelled() => return, () = tokio::time::sleep(SHUTDOWN) => {} }
        if server.with(|state| state.generation) == generation {
            off(&world, &server, "system has shut down");
            if then_on {
                start(&world, &server, "power on after shutdown");
            }
        }
    });
    true
}
