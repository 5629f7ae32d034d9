//! The page that people see.

use std::fmt::Write as _;

/// Rows: sku, title, cents.
pub fn shop(products: &[Vec<String>], orders: &[Vec<String>]) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Corner shop</title>\
         <style>body{font:16px/1.5 system-ui;max-width:46em;margin:2em auto}ul{list-style:none;display:flex;gap:2em;padding:0}td{padding:.1em 1em}</style>\
         <h1>Corner shop</h1><ul>",
    );
    for product in products {
        let [sku, title, cents] = &product[..] else { continue };
        let (sku, title) = (escape(sku), escape(title));
        let _ = write!(page, "<li><img src=/media/{sku}.svg alt=\"\"><p>{title}<br>{}<p><a href=/buy?sku={sku}>Buy</a>", price(cents));
    }
    page.push_str("</ul><h2>Latest orders</h2><table>");
    for order in orders {
        page.push_str("<tr>");
        for cell in order {
            let _ = write!(page, "<td>{}", escape(cell));
        }
    }
    page.push_str("</table>");
    page
}

/// What somebody sees who is about to order.
pub fn till(sku: &str, name: &str) -> String {
    let (sku, name) = (escape(sku), escape(name));
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Order</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:46em;margin:2em auto}}</style><h1>One {sku}</h1><p>Ordered by <b id=who>{name}</b>.\
         <form method=post action=/buy?sku={sku}&amp;quantity=1&amp;customer={name}><button>Order</button></form><p><a href=/>Back to the shop</a>"
    )
}

pub fn price(cents: &str) -> String {
    let cents: u64 = cents.parse().unwrap_or(0);
    format!("€ {}.{:02}", cents / 100, cents % 100)
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_customers_write_is_text() {
        let page = shop(&[], &[vec!["<script>".to_owned()]]);
        assert!(page.contains("<td>&lt;script&gt;") && !page.contains("<script>"));
    }

    #[test]
    fn prices_have_two_digits() {
        assert_eq!(price("1205"), "€ 12.05");
    }
}
