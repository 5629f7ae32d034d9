//! Looking from outside: a client's errno, a certificate shown to a stranger, rows in SQL.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use weft_lab::Place;

use crate::{checkout, limits, shop::Shop};

/// Prints how one `connect()` ended: OK, or the name of its errno.
const ATTEMPT: &str = r#"
import errno, socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
    print("OK")
except socket.timeout:
    print("TIMEOUT")
except OSError as e:
    print(errno.errorcode.get(e.errno, repr(e)))
"#;

/// A word that stands nowhere else, for one purchase.
pub(super) fn marker(of: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("Marker-{of}-{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// One `connect()` from a place: `OK`, `EPERM`, `ECONNREFUSED`, `TIMEOUT` …
pub(super) fn attempt(from: &Place, host: &str, port: u16) -> Result<String> {
    let said = from.check(&["/usr/bin/python3", "-c", ATTEMPT, host, &port.to_string()], limits::ACT_DEADLINE)?;
    Ok(said.trim().to_owned())
}

/// Holds that a `connect()` ends with exactly `wanted`.
pub(super) fn attempt_is(wanted: &str, from: &Place, host: &str, port: u16) -> Result<()> {
    let got = attempt(from, host, port)?;
    ensure!(got == wanted, "connect() from {} to {host}:{port} gave {got}, not {wanted}", from.name());
    Ok(())
}

/// Buys in somebody's name, and finds the row.
pub(super) fn purchase(shop: &Shop, customer: &str) -> Result<String> {
    let output = shop.buy(customer, limits::ACT_DEADLINE)?;
    if !output.status.success() {
        bail!("the purchase of {customer} failed: {}{}", String::from_utf8_lossy(&output.stdout).trim(), String::from_utf8_lossy(&output.stderr).trim());
    }
    row(shop, customer)
}

/// The one row of a customer, as SQL shows it.
pub(super) fn row(shop: &Shop, customer: &str) -> Result<String> {
    let rows = shop.sql(&format!("SELECT id, sku, payment, served_by FROM orders WHERE customer = '{customer}'"))?;
    ensure!(rows.lines().count() == 1, "SQL has {} rows of {customer}: {rows:?}", rows.lines().count());
    Ok(format!("row {rows} in SQL"))
}

/// What a TLS server shows a stranger: `identity …`, `group …`.
pub(super) fn certificate(from: &Place, address: &str, name: &str) -> Result<String> {
    let program = checkout::own_program();
    Ok(from.check(&[program.as_str(), "probe", address, name, "weft/1"], Duration::from_secs(20))?)
}
