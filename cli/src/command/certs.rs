//! `weft certs`: what each agent can prove, and for how long.

use anyhow::{Result, bail};
use futures::future::join_all;

use crate::{Context, Outcome, args::CertsArgs, client, output, remark, view::CertView};

pub(super) async fn run(ctx: &Context, args: CertsArgs) -> Result<Outcome> {
    let config = ctx.config()?;
    let answers = join_all(config.agents.iter().map(|socket| async move {
        let agent = client::Agent::connect(socket).await?;
        let node = agent.status().await?.name;
        agent.certs(&node).await
    }))
    .await;
    let (answered, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(|r: Result<_, client::ClientError>| r.err().map(|e| e.to_string())).collect();
    if answered.is_empty() {
        bail!("{}", if failed.is_empty() { "certificates are held by agents, and the configuration names none".to_owned() } else { failed.join("\nweft: ") });
    }
    failed.iter().for_each(|e| remark(&format!("{e}; its certificates are missing")));
    let mut certs: Vec<CertView> = answered.into_iter().flatten().flatten().collect();
    certs.sort_by(|a, b| (&a.node, &a.spiffe_id).cmp(&(&b.node, &b.spiffe_id)));
    ctx.output.show(&certs, |style| if args.pem { pem(&certs) } else { output::certs(style, &certs, ctx.now) })?;
    Ok(Outcome::Ok)
}

/// Each chain below a comment that says whose it is, as openssl and friends skip it.
fn pem(certs: &[CertView]) -> String {
    certs.iter().map(|c| format!("# node {}: {}\n{}\n", c.node, c.spiffe_id, c.pem.trim_end())).collect()
}
