//! What a person can try while the demo runs, and what each will show.

use weft_host::DEMO_WINDOW as WINDOW;

use crate::stage::NOTICE_DIR;

pub fn print() {
    println!(
        "
The shop is open: http://{WINDOW} in a browser. In a second terminal, in this checkout:

  1  ./weft exec shop/storefront -- shop-buy mug
     a purchase across both nodes: storefront and orders on a, stock on b, the row in PostgreSQL, the bank outside

  2  ./weft flows --last 8
     the same purchase as the mesh saw it: both identities, verdict, path

  3  ./weft exec shop/stock -- psql -h orders-db.shop.weft.internal -U orders shop
     refused: stock declares no database. Then: ./weft why --last
     the whole record, and the line of YAML that would allow it (examples/shop/catalog is watched: try it)

  4  ./weft can shop/stock shop/orders-db; ./weft can shop/orders shop/orders-db
     the same decision without a packet: deny with its nearest miss, allow with its rule

  5  sudo kill -9 $(cat {NOTICE_DIR}/agent-a.pid); SHOP_TILL={WINDOW} target/debug/shop-buy mug 1 late
     the agent of node a is gone for ten seconds: the order waits, and goes through when it is back. Meanwhile nothing opens: 3 is refused as before

Ctrl-C here, or `cargo xtask demo down`, takes everything down."
    );
}
