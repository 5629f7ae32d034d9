//! Claims about what goes on when parts of weft do not.

use anyhow::{Result, anyhow, ensure};
use weft_lab::{Capture, eventually, throughout};

use super::{
    Tour,
    look::{self, attempt, attempt_is, marker, purchase},
    report::Report,
};
use crate::limits;

const STOCK: &str = "stock.shop.weft.internal";

pub(super) fn claims(tour: &mut Tour, report: &mut Report) -> Result<()> {
    report.claim("with the agent killed nothing opens", || {
        tour.mesh.agents[0].kill9();
        attempt_is("EPERM", tour.shop.storefront.place(), STOCK, 2525)?;
        attempt_is("EPERM", tour.shop.storefront.place(), "203.0.113.10", 443)?;
        let stranger = attempt(tour.shop.bank.place(), &tour.shop.database.v4().to_string(), 5432)?;
        ensure!(stranger != "OK", "a stranger reached the database");
        // Same node: no agent is in the way of what is allowed.
        attempt_is("OK", tour.shop.storefront.place(), "orders.shop.weft.internal", 8080)?;
        Ok((
            format!("storefront to stock and to the bank EPERM, a stranger to the database {stranger}"),
            "storefront to orders, which is declared, OK meanwhile".to_owned(),
        ))
    })?;

    report.claim("an order made while the agent is dead waits, and goes through when it is back", || {
        let name = marker("held");
        let mut order = tour.shop.start_buying(&name)?;
        throughout(limits::HELD_ORDER_SPAN, "the order waits", || if order.is_running() { Ok(()) } else { Err(anyhow!("it ended: {}", order.log_tail(3))) })?;
        ensure!(look::row(&tour.shop, &name).is_err(), "there is a row already");
        tour.mesh.agents[0].run()?;
        let status = order.wait(limits::ACT_DEADLINE)?;
        ensure!(status.success(), "the order ended with {status}: {}", order.log_tail(3));
        Ok((look::row(&tour.shop, &name)?, format!("no row in the {} s before", limits::HELD_ORDER_SPAN.as_secs())))
    })?;

    report.claim("without the IAM bridge everything goes on", || {
        tour.mesh.bridge.kill9();
        let row = purchase(&tour.shop, &marker("static"))?;
        attempt_is("EPERM", tour.shop.storefront.place(), STOCK, 2525)?;
        tour.mesh.bridge.run()?;
        Ok((row, "what was denied is still EPERM".to_owned()))
    })?;

    report.claim("a replica that is gone is made up for by the one on the other node, still in TLS", || {
        let name = marker("other");
        let wire = Capture::start(tour.stage.lab.wire(), "other", "wire", "tcp")?;
        let here = purchase(&tour.shop, &marker("this"))?;
        ensure!(here.ends_with("orders on node a in SQL"), "before, {here}");
        tour.shop.orders[0].clone().remove()?;
        let there = eventually(limits::CATALOG_DEADLINE, "a purchase by the other replica", || purchase(&tour.shop, &name))?;
        ensure!(there.ends_with("orders on node b in SQL"), "after, {there}");
        let captured = wire.stop()?;
        ensure!(!captured.contains(name.as_bytes()), "marker {name} is in {}", captured.file.display());
        Ok((format!("{there}; marker in none of {} packets, though every leg but one crossed", captured.packets.len()), format!("before, {here}")))
    })
}
