//! What a person can try while the demo runs, and what each will show.

use anyhow::Result;
use weft_host::{DEMO_DOOR, DEMO_WINDOW as WINDOW};

use crate::{door::Door, stage::NOTICE_DIR};

pub fn print(door: &Door) -> Result<()> {
    let port = DEMO_DOOR.port();
    println!("\nThe portal: https://portal.localhost:{port}\n");
    for user in &door.users {
        let groups = if user.groups.is_empty() { "no group".to_owned() } else { format!("group {}", user.groups) };
        println!("  {:<6} {:<26} {groups}", user.name, user.password);
    }
    println!(
        "
Each sees what they may open: the shop everybody, its orders sales, Prometheus the operators. Passwords are of this run.
The certificate is of this run too: let your browser go on if its authority's SHA-256 is
  {}
or import {ca}. With a program: curl --cacert {ca} https://shop.localhost:{port}/
From elsewhere: ssh -L {port}:127.0.0.1:{port} -L {window}:127.0.0.1:{window} this-machine, then the same address in your own browser.

The shop has a window of its own on this machine: http://{WINDOW}. In a second terminal, in this checkout:

  1  ./weft exec shop/storefront -- shop-buy mug
     a purchase across both nodes: storefront and orders on a, stock on b, the row in PostgreSQL, the bank outside

  2  ./weft flows --last 8
     the same purchase as the mesh saw it: both identities, verdict, path; requests of people among them

  3  ./weft exec shop/stock -- psql -h orders-db.shop.weft.internal -U orders shop
     refused: stock declares no database. Then: ./weft why --last
     the whole record, and the line of YAML that would allow it (examples/shop/catalog is watched: try it)

  4  ./weft can shop/stock shop/orders-db; ./weft can shop/orders shop/orders-db
     the same decision without a packet: deny with its nearest miss, allow with its rule

  5  ./weft get routes; ./weft can user:alice@sales https://orders.localhost:{port}/
     what is open to whom. Sign in as bob, open https://orders.localhost:{port}/: the page says what is missing, whom to ask, and a ./weft why to try

  6  ./weft user groups bob --add sales
     within a minute of his next sign-in bob sees the orders

  7  sudo kill -9 $(cat {NOTICE_DIR}/agent-a.pid); SHOP_TILL={WINDOW} target/debug/shop-buy mug 1 late
     the agent of node a is gone for ten seconds: the order waits, and goes through when it is back. Meanwhile nothing opens: 3 is refused as before

Ctrl-C here, or `cargo xtask demo down`, takes everything down.",
        Door::fingerprint()?,
        ca = Door::ca().display(),
        window = WINDOW.port(),
    );
    Ok(())
}
