//! Claims about what is allowed and what is not.

use std::{fs, path::Path};

use anyhow::{Result, anyhow, ensure};
use weft_lab::eventually;

use super::{
    Tour,
    look::{attempt, attempt_is},
    report::Report,
};
use crate::{cli, limits};

const DATABASE: &str = "orders-db.shop.weft.internal";
const PSQL: [&str; 9] = ["psql", "-h", DATABASE, "-U", "orders", "-d", "shop", "-Atc", "SELECT 'reached'"];
/// What `weft why` suggests, in the file of the team that owns stock.
const GRANT: &str = "  dependsOn:\n    - { service: orders-db, port: postgres }\n";

pub(super) fn claims(tour: &mut Tour, catalog: &Path, report: &mut Report) -> Result<()> {
    report.claim("who declares nothing gets nothing, at once", || {
        let (ok, said) = psql_as("shop/stock")?;
        let refusal = said.lines().find(|l| l.contains("Operation not permitted")).map(|l| l.trim().to_owned());
        let refusal = refusal.filter(|_| !ok).ok_or_else(|| anyhow!("psql in stock said {said:?}"))?;
        let (ok, control) = psql_as("shop/orders")?;
        ensure!(ok && control.trim() == "reached", "psql in orders said {control:?}");
        Ok((format!("psql in stock: \"{refusal}\""), "the same command in orders, which declares the database, reached it".to_owned()))
    })?;

    report.claim("a denial explains itself, with the patch that would allow it", || {
        let output = cli::run(&["why", "--last"])?;
        let said = cli::said(&output);
        for part in ["shop/stock", "shop/orders-db", "dependsOn", "service: orders-db"] {
            ensure!(said.contains(part), "`weft why --last` does not say {part:?}:\n{said}");
        }
        let can = |src: &str| Ok::<_, anyhow::Error>(cli::run(&["can", src, "shop/orders-db"])?.status.code());
        ensure!(can("shop/stock")? == Some(1), "`weft can shop/stock shop/orders-db` exits {:?}", can("shop/stock")?);
        ensure!(can("shop/orders")? == Some(0), "`weft can shop/orders shop/orders-db` exits {:?}", can("shop/orders")?);
        Ok(("`weft why --last` names both services and the missing dependsOn; `weft can` exits 1".to_owned(), "for orders `weft can` exits 0".to_owned()))
    })?;

    report.claim("a line in the catalog is all that was missing, and taking it out denies again", || {
        let file = catalog.join("warehouse.yaml");
        let owned = fs::read_to_string(&file)?;
        fs::write(&file, format!("{}\n{GRANT}", owned.trim_end()))?;
        eventually(limits::CATALOG_DEADLINE, "stock reaching the database", || wants(true, psql_as("shop/stock")?))?;
        fs::write(&file, &owned)?;
        eventually(limits::CATALOG_DEADLINE, "stock refused again", || wants(false, psql_as("shop/stock")?))?;
        Ok(("with the dependency psql in stock reached it, without restart".to_owned(), "with the line gone it is refused again".to_owned()))
    })?;

    report.claim("the bank is reached through its declared door only", || {
        let (address, shop) = ("203.0.113.10", &tour.shop);
        attempt_is("EPERM", shop.storefront.place(), address, 443)?;
        attempt_is("EPERM", shop.orders[0].place(), address, 80)?;
        attempt_is("OK", shop.orders[0].place(), address, 443)?;
        Ok(("connect() to the bank: storefront EPERM, orders to another port EPERM".to_owned(), "orders to the declared port OK".to_owned()))
    })?;

    report.claim("plaintext that goes around the mesh is refused", || {
        let database = tour.shop.database.v4().to_string();
        let got = attempt(tour.shop.bank.place(), &database, 5432)?;
        ensure!(got == "ECONNREFUSED", "a stranger's connect() to {database}:5432 gave {got}");
        ensure!(tour.before.stranger == "OK", "without the mesh it gave {}", tour.before.stranger);
        Ok((format!("a stranger's connect() to {database}:5432 gives {got}"), "without the mesh the same one gave OK".to_owned()))
    })?;

    report.claim("no workload may dial the tunnel's port itself", || {
        let stock = tour.shop.stock.v4().to_string();
        let got = attempt(tour.shop.orders[0].place(), &stock, 15008)?;
        ensure!(got == "EPERM", "orders, which may reach stock, dialled its port 15008 and got {got}");
        attempt_is("OK", tour.shop.orders[0].place(), &stock, 2525)?;
        Ok((format!("orders to {stock}:15008 gives {got}"), "orders to stock's declared port gives OK".to_owned()))
    })?;

    report.claim("a process without an identity in the managed subtree is denied", || {
        let (inside, outside) = (tour.stage.b.pod("stray")?, tour.stage.b.pod_in("guest", &tour.stage.b.cgroup().join("guest"))?);
        attempt_is("EPERM", inside.place(), "203.0.113.10", 443)?;
        attempt_is("OK", outside.place(), "203.0.113.10", 443)?;
        inside.remove()?;
        outside.remove()?;
        Ok(("connect() to the bank gives EPERM".to_owned(), "from a cgroup beside the managed subtree the same gives OK".to_owned()))
    })
}

fn psql_as(service: &str) -> Result<(bool, String)> {
    let mut arguments = vec!["exec", service, "--"];
    arguments.extend(PSQL);
    let output = cli::run(&arguments)?;
    // weft remarks on standard error which replica it entered.
    let said = if output.status.success() { String::from_utf8_lossy(&output.stdout).into_owned() } else { cli::said(&output) };
    Ok((output.status.success(), said))
}

fn wants(reached: bool, (ok, said): (bool, String)) -> Result<()> {
    if ok == reached { Ok(()) } else { Err(anyhow!("psql said {:?}", last_line(&said))) }
}

fn last_line(text: &str) -> &str {
    text.trim().lines().last().unwrap_or_default().trim()
}
