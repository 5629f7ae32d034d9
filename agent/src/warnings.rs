//! What is not as it should be and stops nothing: shown by `weft status` for as long as it is true.

use std::{collections::BTreeMap, sync::Mutex};

use tracing::warn;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Host,
    Holder,
    WorkloadsFile,
    LiveWorkloads,
    Snapshot,
    Hosts,
    Flows,
    Revocation,
    Drift,
}

#[derive(Debug, Default)]
pub struct Warnings(Mutex<BTreeMap<Topic, Vec<String>>>);

impl Warnings {
    /// Replaces what a topic has to say; what is new is logged once.
    pub fn set(&self, topic: Topic, messages: Vec<String>) {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let known = all.get(&topic);
        for message in messages.iter().filter(|m| !known.is_some_and(|k| k.contains(m))) {
            warn!("{message}");
        }
        if messages.is_empty() {
            all.remove(&topic);
        } else {
            all.insert(topic, messages);
        }
    }

    pub fn clear(&self, topic: Topic) {
        self.set(topic, Vec::new());
    }

    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).values().flatten().cloned().collect()
    }
}
