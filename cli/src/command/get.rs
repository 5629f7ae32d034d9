//! `weft get`: lists of what there is.

use anyhow::{Result, bail};

use super::status;
use crate::{
    Context, Outcome,
    args::{GetArgs, What},
    output, remark, source,
    view::{PolicyView, RouteView, ServiceView, WorkloadView},
};

pub(super) async fn run(ctx: &Context, args: GetArgs) -> Result<Outcome> {
    match args.what {
        What::Services => {
            let snapshot = source::snapshot(ctx, args.catalog.as_deref()).await?;
            let services = ServiceView::all(&snapshot);
            ctx.output.show(&services, |style| output::services(style, &services))?;
        }
        What::Policies => {
            let snapshot = source::snapshot(ctx, args.catalog.as_deref()).await?;
            let policies = PolicyView::all(&snapshot);
            ctx.output.show(&policies, |style| output::policies(style, &policies))?;
        }
        What::Routes => {
            let routes = RouteView::all(&source::snapshot_with_routes(ctx, args.catalog.as_deref()).await?);
            ctx.output.show(&routes, |style| output::routes(style, &routes))?;
        }
        What::Workloads | What::Nodes if args.catalog.is_some() => bail!("a catalog knows services, policies and routes only: leave out --catalog"),
        What::Workloads => {
            let nodes = nodes(ctx).await?;
            let workloads: Vec<WorkloadView> = nodes.into_iter().flat_map(|n| n.workloads).collect();
            ctx.output.show(&workloads, |style| output::workloads(style, &workloads, ctx.now))?;
        }
        What::Nodes => {
            let nodes = nodes(ctx).await?;
            ctx.output.show(&nodes, |style| output::nodes(style, &nodes, ctx.now))?;
        }
    }
    Ok(Outcome::Ok)
}

async fn nodes(ctx: &Context) -> Result<Vec<crate::view::NodeView>> {
    let status = status::gather(ctx).await?;
    // Problems of nodes are `status`'s affair; that the list is incomplete is ours.
    status.unreachable().for_each(remark);
    Ok(status.nodes)
}
