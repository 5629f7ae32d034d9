//! Bounds of the demo, with their units.

use std::time::Duration;

/// Until every workload is read back from the kernel.
pub const ENROL_DEADLINE: Duration = Duration::from_secs(60);
/// Until a program of the shop listens. `initdb` on a slow disk is the longest.
pub const PROGRAM_DEADLINE: Duration = Duration::from_secs(90);
/// One purchase, or one look from outside.
pub const ACT_DEADLINE: Duration = Duration::from_secs(30);
/// Until a changed catalog decides.
pub const CATALOG_DEADLINE: Duration = Duration::from_secs(20);
/// How long a dead agent stays dead, so that there is something to see.
pub const AGENT_RESTART_PAUSE: Duration = Duration::from_secs(10);
/// How long an order is watched while the agent is dead.
pub const HELD_ORDER_SPAN: Duration = Duration::from_secs(3);
/// Until `down` has seen the demo go.
pub const DOWN_DEADLINE: Duration = Duration::from_secs(60);
/// Connections that the window on the host carries at once.
pub const RELAYS_MAX: usize = 64;
/// How long the tour waits until the tests, or a demo, are off the stage.
pub const STAGE_PATIENCE: Duration = Duration::from_secs(900);
