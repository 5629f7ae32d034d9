//! Handshakes under way, by the address that they come from: one caller's thousand wait for one another, not the next caller for them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::limits::{HANDSHAKE_WAIT, HANDSHAKES_PER_ADDRESS_MAX};

/// Every address that shakes hands, or waits for it, with this node.
#[derive(Default)]
pub(crate) struct Knocks(Mutex<HashMap<IpAddr, Weak<Semaphore>>>);

/// One handshake's place among those of its address and of its listener.
pub(crate) struct Knock {
    _of_address: OwnedSemaphorePermit,
    _of_listener: OwnedSemaphorePermit,
}

impl Knocks {
    /// Waits for its turn among the handshakes of the same address, at most [`HANDSHAKE_WAIT`]; meanwhile the listener's place is left to
    /// others. `waits` is told if it does. `None`: it has waited too long.
    pub(crate) async fn enter(&self, from: IpAddr, listener: OwnedSemaphorePermit, waits: impl FnOnce()) -> Option<Knock> {
        let own = self.of(from);
        if let Ok(of_address) = own.clone().try_acquire_owned() {
            return Some(Knock { _of_address: of_address, _of_listener: listener });
        }
        waits();
        let all = listener.semaphore().clone();
        drop(listener);
        let both = async {
            let of_address = own.acquire_owned().await.ok()?;
            Some(Knock { _of_address: of_address, _of_listener: all.acquire_owned().await.ok()? })
        };
        timeout(HANDSHAKE_WAIT, both).await.ok()?
    }

    fn of(&self, from: IpAddr) -> Arc<Semaphore> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = known.get(&from).and_then(Weak::upgrade) {
            return own;
        }
        known.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(HANDSHAKES_PER_ADDRESS_MAX));
        known.insert(from, Arc::downgrade(&own));
        own
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;
    use crate::proxy::limits::HANDSHAKES_PER_LISTENER_MAX;

    #[tokio::test]
    async fn who_knocks_a_thousand_times_leaves_the_door_to_others() {
        let knocks = Arc::new(Knocks::default());
        let listener = Arc::new(Semaphore::new(HANDSHAKES_PER_LISTENER_MAX));
        let (greedy, polite) = (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 0, 0, 2).into());
        let (within, mut waiting) = (Duration::from_millis(50), Vec::new());
        for _ in 0..1000 {
            // The greedy hold what they get.
            let (knocks, listener) = (knocks.clone(), listener.clone());
            let place = timeout(within, listener.acquire_owned()).await.expect("the listener is full").unwrap();
            waiting.push(tokio::spawn(async move {
                let _held = knocks.enter(greedy, place, || {}).await;
                std::future::pending::<()>().await;
            }));
            tokio::task::yield_now().await;
        }
        let place = timeout(within, listener.clone().acquire_owned()).await.expect("the listener is full").unwrap();
        let entered = timeout(within, knocks.enter(polite, place, || panic!("it has to wait"))).await;
        assert!(matches!(entered, Ok(Some(_))), "a neighbour shakes hands at once");
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
        for task in waiting {
            let _ = task.await;
        }
        drop(entered);
        let _ = knocks.of(polite);
        assert_eq!(knocks.0.lock().unwrap().len(), 1, "those who have gone are forgotten");
    }
}
