//! The agent's standing relation to its holder: connected, or being repaired. Without a holder workloads live on; only a restart would reset them.

use std::{
    os::fd::{AsFd, OwnedFd},
    process::Child,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Client, HolderError, Key, ensure};
use crate::{
    config::Config,
    mesh::Chain,
    warnings::{Topic, Warnings},
};

#[derive(Debug)]
pub struct Link {
    config: Config,
    state: Mutex<State>,
    connected: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    client: Option<Client>,
    /// The holder, if this agent started it; to be reaped.
    child: Option<Child>,
}

impl Link {
    /// Finds the holder or starts one.
    pub fn open(config: Config, warnings: &Warnings) -> Self {
        let link = Self { config, state: Mutex::default(), connected: AtomicBool::new(false) };
        link.repair(&mut link.lock(), warnings);
        link
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// A duplicate of what the holder keeps; `None` where it keeps nothing or does not answer.
    pub fn get(&self, key: Key) -> Option<OwnedFd> {
        self.call(|client| client.get(key)).flatten()
    }

    pub fn put(&self, key: Key, listener: impl AsFd) {
        self.call(|client| client.put(key, listener.as_fd()));
    }

    pub fn drop_key(&self, key: Key) {
        self.call(|client| client.drop_key(key));
    }

    pub fn list(&self) -> Vec<Key> {
        self.call(Client::list).unwrap_or_default()
    }

    /// Makes sure that a holder answers and keeps all of these.
    pub fn maintain(&self, listeners: &[(Key, &dyn AsFd)], warnings: &Warnings) {
        let asked = self.call(Client::list);
        let held = match asked {
            Some(held) => held,
            None => {
                self.repair(&mut self.lock(), warnings);
                self.list()
            }
        };
        for (key, listener) in listeners.iter().filter(|(key, _)| !held.contains(key)) {
            self.put(*key, listener.as_fd());
        }
    }

    fn call<T>(&self, f: impl FnOnce(&Client) -> Result<T, HolderError>) -> Option<T> {
        let mut state = self.lock();
        match f(state.client.as_ref()?) {
            Ok(answer) => Some(answer),
            Err(HolderError::Refused(why)) => {
                tracing::warn!(why, "the holder refuses");
                None
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the holder is lost");
                state.client = None;
                self.connected.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    fn repair(&self, state: &mut State, warnings: &Warnings) {
        if state.client.is_some() {
            return;
        }
        if let Some(child) = &mut state.child {
            // Reaps it; one that still runs goes on as somebody else's.
            let _ = child.try_wait();
        }
        match ensure(&self.config) {
            Ok((client, child)) => {
                state.client = Some(client);
                state.child = child.or_else(|| state.child.take());
                self.connected.store(true, Ordering::Relaxed);
                warnings.clear(Topic::Holder);
            }
            Err(error) => warnings.set(Topic::Holder, vec![format!("there is no holder, so a restart of the agent resets connections: {}", Chain(&error))]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}
