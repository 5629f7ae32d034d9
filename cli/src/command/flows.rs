//! `weft flows`: connections of all nodes in one list.

use std::path::PathBuf;

use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt, future::join_all};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Context, Outcome,
    args::FlowsArgs,
    client::{Agent, ClientError, FlowFilter},
    limits::{FLOW_CHANNEL_MAX, RECONNECT_PAUSE},
    output, remark,
    reorder::{Printed, Reorder, newest_of},
    view::FlowView,
};

pub(super) async fn run(ctx: &Context, args: FlowsArgs) -> Result<Outcome> {
    let since = args.since.map(|d| ctx.now.as_millis().saturating_sub(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)).max(1));
    let filter = FlowFilter { from: args.from, to: args.to, verdict: args.verdict, since_ms: since, last: args.last };
    let sockets = ctx.config()?.agents;
    if sockets.is_empty() {
        bail!("flows are recorded by agents, and the configuration names none: set agents = [\"/run/weft/agent.sock\"] or use --agent");
    }
    let wide = args.wide || ctx.output.style.wide;
    if args.follow {
        return follow(ctx, sockets, filter, wide).await;
    }
    let flows = newest_of(recorded(&sockets, &filter).await?, args.last.map(|n| n as usize));
    match ctx.output.format {
        output::Format::Table | output::Format::Wide => output::print(&output::flows(ctx.output.style, &flows, wide))?,
        output::Format::Json => flows.iter().try_for_each(|f| output::print(&output::json_line(f)))?,
    }
    Ok(Outcome::Ok)
}

/// What all agents have kept. An agent that does not answer is named; an error only when none does.
pub(super) async fn recorded(sockets: &[PathBuf], filter: &FlowFilter) -> Result<Vec<FlowView>> {
    let answers = join_all(sockets.iter().map(|socket| recorded_by(socket.clone(), filter))).await;
    let (answered, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    let failed: Vec<String> = failed.into_iter().filter_map(|r| r.err().map(|e| e.to_string())).collect();
    if answered.is_empty() {
        bail!("{}", failed.join("\nweft: "));
    }
    failed.iter().for_each(|e| remark(&format!("{e}; its flows are missing")));
    Ok(answered.into_iter().flatten().flatten().collect())
}

async fn recorded_by(socket: PathBuf, filter: &FlowFilter) -> Result<Vec<FlowView>, ClientError> {
    Agent::connect(&socket).await?.flows(filter, false).await?.try_collect().await
}

/// Until the reader goes away or the person has seen enough.
async fn follow(ctx: &Context, sockets: Vec<PathBuf>, filter: FlowFilter, wide: bool) -> Result<Outcome> {
    let (to, mut from) = mpsc::channel(FLOW_CHANNEL_MAX);
    for socket in sockets {
        tokio::spawn(keep_following(socket, filter.clone(), to.clone()));
    }
    drop(to);
    let mut order = Reorder::new(filter.last);
    let mut printed = Printed::default();
    loop {
        let due = order.next_due().map(Instant::from_std);
        tokio::select! {
            flow = from.recv() => match flow {
                Some(flow) => order.push(flow, std::time::Instant::now()),
                None => bail!("no agent is left to follow"),
            },
            () = async { tokio::time::sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {
                for flow in order.due(std::time::Instant::now()) {
                    let line = ctx.output.line(&flow, |style| output::flow_line(style, &flow, wide));
                    if printed.is_news(&flow, &line) {
                        output::print(&line)?;
                    }
                }
            }
        }
    }
}

/// An agent may restart while it is followed: says so once, and goes on where it ended.
async fn keep_following(socket: PathBuf, mut filter: FlowFilter, to: mpsc::Sender<FlowView>) {
    let mut told = false;
    loop {
        match follow_once(&socket, &mut filter, &to, &mut told).await {
            Ok(Stopped::ReaderGone) => return,
            Ok(Stopped::Ended) if !told => remark(&format!("the agent at {} has ended; waiting for it", socket.display())),
            Err(e) if !told => remark(&format!("{e}; waiting for it")),
            _ => {}
        }
        told = true;
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

enum Stopped {
    Ended,
    ReaderGone,
}

async fn follow_once(socket: &PathBuf, filter: &mut FlowFilter, to: &mpsc::Sender<FlowView>, told: &mut bool) -> Result<Stopped, ClientError> {
    let agent = Agent::connect(socket).await?;
    let stream = agent.flows(filter, true).await?;
    tokio::pin!(stream);
    if std::mem::take(told) {
        remark(&format!("the agent at {} is back", socket.display()));
    }
    while let Some(flow) = stream.next().await {
        let flow = flow?;
        // After a restart of the agent nothing comes twice.
        if let Some(at) = flow.at {
            filter.since_ms = Some(filter.since_ms.unwrap_or(0).max(at.as_millis() + 1));
            filter.last = None;
        }
        if to.send(flow).await.is_err() {
            return Ok(Stopped::ReaderGone);
        }
    }
    Ok(Stopped::Ended)
}
