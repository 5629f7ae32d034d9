//! `shop-storefront`: the window, and the till behind it.

use std::{
    env, io,
    net::{TcpListener, TcpStream},
    thread,
};

use shop_storefront::{assertion, http, page, postgres};

/// Whom it talks to: names of the mesh, unless told otherwise.
struct Shop {
    orders: String,
    media: String,
    database: String,
}

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let address = next("[::]:8080");
    let shop = Shop {
        orders: next("orders.shop.weft.internal:8080"),
        media: next("media.shop.weft.internal:80"),
        database: next("orders-db.shop.weft.internal:5432"),
    };
    let shop: &'static Shop = Box::leak(Box::new(shop));
    let listener = TcpListener::bind(&address)?;
    println!("listening on {address}");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            if let Err(e) = shop.serve(&stream) {
                println!("connection ended: {e}");
            }
        });
    }
    Ok(())
}

impl Shop {
    fn serve(&self, stream: &TcpStream) -> io::Result<()> {
        let request = http::read(stream)?;
        let mut words = request.start.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let outcome = match (method, path) {
            ("GET", "/") => self.window().map(|p| ("200 OK", "text/html; charset=utf-8", p)),
            ("GET", "/healthz") => Ok(("200 OK", "text/plain", b"ok\n".to_vec())),
            ("GET", picture) if picture.strip_prefix("/media/").is_some_and(|p| p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')) => {
                self.picture(&picture["/media".len()..])
            }
            ("GET", "/buy") => self.till(query, request.assertion.as_deref()),
            ("POST", "/buy") => self.buy(query),
            _ => Ok(("404 Not Found", "text/plain", b"there is GET /, GET /media/NAME.svg, GET /buy and POST /buy\n".to_vec())),
        };
        match outcome {
            Ok((status, kind, body)) => http::respond(stream, status, kind, &body),
            Err(e) => http::respond(stream, "502 Bad Gateway", "application/json", format!("{{\"error\": \"{e}\"}}\n").as_bytes()),
        }
    }

    fn window(&self) -> io::Result<Vec<u8>> {
        let ask = |sql| postgres::query(&self.database, "storefront", "shop", sql);
        let products = ask("SELECT sku, title, price_cents FROM products ORDER BY sku")?;
        let orders = ask("SELECT id, quantity, sku, customer, payment, served_by FROM orders ORDER BY id DESC LIMIT 10")?;
        Ok(page::shop(&products, &orders).into_bytes())
    }

    fn picture(&self, path: &str) -> io::Result<(&'static str, &'static str, Vec<u8>)> {
        let (status, body) = http::request(&self.media, "GET", path, &[])?;
        Ok((if status == 200 { "200 OK" } else { "404 Not Found" }, "image/svg+xml", body))
    }

    /// Who has signed in orders under their own name.
    fn till(&self, query: &str, asserted: Option<&str>) -> io::Result<(&'static str, &'static str, Vec<u8>)> {
        let name = asserted.and_then(assertion::user).unwrap_or_else(|| "you".to_owned());
        Ok(("200 OK", "text/html; charset=utf-8", page::till(&word(value(query, "sku")), &name).into_bytes()))
    }

    fn buy(&self, query: &str) -> io::Result<(&'static str, &'static str, Vec<u8>)> {
        let value = |name| value(query, name);
        let quantity: u32 = value("quantity").parse().unwrap_or(1);
        let order = format!("{{\"sku\": \"{}\", \"quantity\": {quantity}, \"customer\": \"{}\"}}", word(value("sku")), word(value("customer")));
        let (status, body) = http::request(&self.orders, "POST", "/orders", order.as_bytes())?;
        let status = match status {
            200 => "200 OK",
            400 | 409 => "409 Conflict",
            _ => "502 Bad Gateway",
        };
        Ok((status, "application/json", body))
    }
}

fn value<'q>(query: &'q str, name: &str) -> &'q str {
    query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == name).map_or("", |(_, v)| v)
}

/// Words only, so that they need no escaping on the way.
fn word(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
}
