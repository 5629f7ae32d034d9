//! `shop-buy [SKU] [QUANTITY] [CUSTOMER]`: a purchase at the till of the storefront it stands in, or at the one that SHOP_TILL names.

use std::{env, process::ExitCode};

use shop_storefront::http;

/// Loopback: who stands in the storefront needs nobody's leave to use its till.
const TILL: &str = "127.0.0.1:8080";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (sku, quantity, customer) = (next("mug"), next("1"), next("somebody"));
    let till = env::var("SHOP_TILL").unwrap_or_else(|_| TILL.to_owned());
    match http::request(&till, "POST", &format!("/buy?sku={sku}&quantity={quantity}&customer={customer}"), &[]) {
        Ok((status, body)) => {
            println!("{}", String::from_utf8_lossy(&body).trim_end());
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(e) => {
            eprintln!("shop-buy: the till at {till} does not answer: {e}; is this the storefront's pod?");
            ExitCode::from(2)
        }
    }
}
