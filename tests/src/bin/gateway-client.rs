//! A gateway's conversation with its agent and nothing else of a gateway: `follow` prints each revision and comes again when the stream ends, `ask` does so
//! once, `report` tells of one request. It says what it was answered; whether that is right the tests know.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use tonic::{Status, transport::Channel};
use weft_api::{
    agent::v1::{Flow, Request},
    bridge::v1::Envelope,
    connect_unix,
    gateway::v1::{FollowRequest, ReportRequest, mesh_client::MeshClient},
    limits::MESSAGE_MAX_BYTES,
};

const AGAIN: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["follow", socket] => loop {
            if let Err(error) = follow(socket, usize::MAX).await {
                println!("ended {error:#}");
            }
            tokio::time::sleep(AGAIN).await;
        },
        ["ask", socket] => patiently(async || follow(socket, 1).await).await,
        ["report", socket, id, user, destination] => patiently(async || report(socket, id, user, destination).await).await,
        _ => bail!("usage: gateway-client follow|ask SOCKET, or report SOCKET ID USER DESTINATION"),
    }
}

/// Where the kernel does not say which process has connected, one that has just started must come again.
async fn patiently(f: impl AsyncFn() -> Result<()>) -> Result<()> {
    for _ in 0..20 {
        match f().await {
            Err(error) if error.to_string().starts_with("Unavailable") => tokio::time::sleep(AGAIN).await,
            done => return done,
        }
    }
    f().await
}

async fn client(socket: &str) -> Result<MeshClient<Channel>> {
    Ok(MeshClient::new(connect_unix(socket).await?).max_decoding_message_size(MESSAGE_MAX_BYTES))
}

async fn follow(socket: &str, most: usize) -> Result<()> {
    let mut stream = client(socket).await?.follow(FollowRequest {}).await.map_err(told)?.into_inner();
    for _ in 0..most {
        let message = stream.message().await.map_err(told)?.context("the stream ended without a word")?;
        let envelope = Envelope::decode(message.envelope.as_slice())?;
        println!("revision {} signed by {} in {} bytes", envelope.revision, envelope.key_id, envelope.signature.len());
    }
    Ok(())
}

/// Somebody of support was refused what is for sales.
async fn report(socket: &str, id: &str, user: &str, destination: &str) -> Result<()> {
    let request = Request {
        user: user.to_owned(),
        groups: vec!["support".to_owned()],
        method: "GET".to_owned(),
        host: "shop.corp.example".to_owned(),
        path: "/orders?secret".to_owned(),
        status: 403,
        missing: vec!["sales".to_owned()],
    };
    let flow = Flow {
        id: id.to_owned(),
        node: "somewhere".to_owned(),
        point: "kernel-out".to_owned(),
        verdict: "deny".to_owned(),
        reason: "missing-group".to_owned(),
        source: format!("user:{user}"),
        destination: destination.to_owned(),
        request: Some(request),
        ..Flow::default()
    };
    client(socket).await?.report(tokio_stream::iter([ReportRequest { flows: vec![flow] }])).await.map_err(told)?;
    println!("reported");
    Ok(())
}

fn told(status: Status) -> anyhow::Error {
    anyhow::anyhow!("{:?}: {}", status.code(), status.message())
}
