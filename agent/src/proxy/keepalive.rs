//! Whether the application asks if its peer is alive, and the same question asked on the tunnel.
//!
//! An application that sets keepalive gets its answers from this node's kernel, which always lives. But its probes arrive here, where they
//! are told from silence by the count of segments; so the tunnel is asked as often as the application asks.

use std::{os::fd::AsFd as _, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    host::Host,
    limits::{KEEPALIVE_IDLE, KEEPALIVE_LOOK, MIRRORED_MIN},
    relay::Carried,
    sockets,
    watched::Watched,
};

/// Looks as long as the connection lives; never returns.
pub(crate) async fn mirror(host: &Arc<dyn Host>, application: &Watched, tunnel: &Watched, carried: &Carried) {
    let mut asked = KEEPALIVE_IDLE;
    let mut last: Option<Look> = None;
    loop {
        sleep(KEEPALIVE_LOOK).await;
        let Ok(segments) = host.segments(application.socket().as_fd()) else { return std::future::pending().await };
        let now = Look { at: Instant::now(), segments, bytes: carried.total() };
        let Some(before) = &last else {
            last = Some(now);
            continue;
        };
        if before.bytes != now.bytes {
            last = Some(now);
            continue;
        }
        let probes = now.segments.wrapping_sub(before.segments);
        if probes == 0 {
            continue;
        }
        let period = (now.at.duration_since(before.at) / probes).max(MIRRORED_MIN);
        last = Some(now);
        if period < asked {
            asked = period;
            // A socket that takes no option is about to end.
            let _ = sockets::ask_every(tunnel.socket(), asked);
        }
    }
}

struct Look {
    at: Instant,
    segments: u32,
    bytes: u64,
}

const _: () = assert!(Duration::as_secs(&KEEPALIVE_LOOK) < Duration::as_secs(&KEEPALIVE_IDLE));
