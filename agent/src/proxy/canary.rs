//! The answer to a canary: what the kernel attested of whoever dialled the address that only a capture answers.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use weft_ebpf_common::{Attestation, CANARY_PORT, CANARY_V4, CANARY_V6};

/// How long the canary may take to read its answer.
const ANSWER: Duration = Duration::from_secs(5);

pub(crate) fn is_canary(a: &Attestation) -> bool {
    a.dialled_port == CANARY_PORT && (a.dialled == CANARY_V4 || a.dialled == CANARY_V6)
}

/// One line: the service and the namespace that the kernel says the caller is of.
pub fn answer_of(service: u32, netns: u64) -> String {
    format!("weft canary service {service} namespace {netns}")
}

pub(crate) async fn answer(mut socket: TcpStream, a: &Attestation) {
    let line = answer_of(a.source, a.netns) + "\n";
    // Whoever does not read its answer has no proof.
    let _ = tokio::time::timeout(ANSWER, async {
        socket.write_all(line.as_bytes()).await?;
        socket.shutdown().await
    })
    .await;
}
