//! The canaries of every enrolled workload, now.

use tonic::Status;
use weft_api::agent::v1 as wire;
use weft_kernel::Kernel;

use super::AgentService;
use crate::{
    limits,
    node::{Place, canary},
};

impl AgentService {
    pub(super) async fn prove_all(&self) -> Result<Vec<wire::Proof>, Status> {
        let (kernel, places) = (self.0.kernel.clone(), self.0.namespaces.all());
        tokio::task::spawn_blocking(move || prove(&kernel, &places)).await.map_err(|e| Status::internal(e.to_string()))
    }
}

fn prove(kernel: &Kernel, places: &[Place]) -> Vec<wire::Proof> {
    let share = places.len().div_ceil(limits::CANARIES_AT_ONCE).max(1);
    std::thread::scope(|scope| {
        let running: Vec<_> = places.chunks(share).map(|some| scope.spawn(|| some.iter().map(|place| one(kernel, place)).collect::<Vec<_>>())).collect();
        let mut proofs: Vec<_> = running.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect();
        proofs.sort_by(|a, b| a.uid.cmp(&b.uid));
        proofs
    })
}

fn one(kernel: &Kernel, place: &Place) -> wire::Proof {
    let proof = canary::prove(kernel, place, true);
    let why = |found: Result<(), String>| found.err().unwrap_or_default();
    wire::Proof { uid: place.uid.to_string(), outbound: why(proof.outbound), inbound: why(proof.inbound) }
}
