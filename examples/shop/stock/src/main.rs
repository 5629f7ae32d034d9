//! Stock: what is on the shelves, in memory. Speaks lines, and speaks first, like SMTP: a client that waits for the greeting and a mesh that waits for the
//! client would wait for each other.
//!
//! ```text
//! 220 stock ready, you are 10.77.1.3     the server, at once
//! RESERVE mug 2 anything-to-remember      the client
//! 250 reserved 2 mug, 40 left
//! LIST → 250-mug 40 … 250 end · QUIT → 221 bye · anything else → 500
//! ```

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

const LINE_MAX_BYTES: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(120);

type Shelves = Arc<Mutex<BTreeMap<String, u32>>>;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:2525".to_owned());
    let shelves: Shelves = Arc::new(Mutex::new([("mug", 10_000), ("scarf", 500), ("basket", 300)].map(|(k, n)| (k.to_owned(), n)).into()));
    let listener = TcpListener::bind(&address)?;
    println!("listening on {address}");
    for stream in listener.incoming() {
        let (Ok(stream), shelves) = (stream, Arc::clone(&shelves)) else { continue };
        thread::spawn(move || {
            if let Err(e) = serve(&stream, &shelves) {
                println!("connection ended: {e}");
            }
        });
    }
    Ok(())
}

fn serve(stream: &TcpStream, shelves: &Shelves) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut out = stream;
    write!(out, "220 stock ready, you are {peer}\r\n")?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if lines.by_ref().take(LINE_MAX_BYTES).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.first() == Some(&"QUIT") {
            return out.write_all(b"221 bye\r\n");
        }
        let answer = answer(&words, shelves);
        println!("{peer}: {} -> {}", line.trim_end(), answer.trim_end());
        out.write_all(answer.as_bytes())?;
    }
}

fn answer(words: &[&str], shelves: &Shelves) -> String {
    let mut shelves = shelves.lock().unwrap_or_else(PoisonError::into_inner);
    match words {
        ["RESERVE", sku, quantity, ..] => match (shelves.get_mut(*sku), quantity.parse::<u32>()) {
            (Some(left), Ok(n)) if n <= *left => {
                *left -= n;
                format!("250 reserved {n} {sku}, {left} left\r\n")
            }
            (Some(left), Ok(_)) => format!("550 only {left} {sku} left\r\n"),
            (None, _) => format!("550 no {sku} here\r\n"),
            (_, Err(_)) => format!("501 {quantity} is no quantity\r\n"),
        },
        ["LIST"] => shelves.iter().map(|(sku, left)| format!("250-{sku} {left}\r\n")).chain(["250 end\r\n".to_owned()]).collect(),
        _ => "500 RESERVE SKU QUANTITY [REFERENCE], LIST or QUIT\r\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserves_what_is_there_and_no_more() {
        let shelves: Shelves = Arc::new(Mutex::new([("mug".to_owned(), 3)].into()));
        let check = |line: &str, expect: &str| assert_eq!(answer(&line.split_whitespace().collect::<Vec<_>>(), &shelves).trim_end(), expect);
        check("RESERVE mug 2 x", "250 reserved 2 mug, 1 left");
        check("RESERVE mug 2", "550 only 1 mug left");
        check("RESERVE cup 1", "550 no cup here");
        check("RESERVE mug lots", "501 lots is no quantity");
        check("LIST", "250-mug 1\r\n250 end");
        check("HELO", "500 RESERVE SKU QUANTITY [REFERENCE], LIST or QUIT");
    }
}
