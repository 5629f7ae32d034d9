//! Requests that two readers could take for different ones, as raw bytes over TCP to a real server that passes on to a real backend, which writes
//! down what it received. For each: the exact answers, whether the connection survives, and the exact bytes behind the door.

mod common;

use common::{Backend, Gateway};

/// What happens to the connection after the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Stays,
    Closes,
}
use Then::{Closes, Stays};

struct Vector {
    name: &'static str,
    send: String,
    statuses: &'static [u16],
    then: Then,
    /// Whole requests at the backend, byte for byte.
    behind: Vec<String>,
}

fn vector(name: &'static str, send: impl Into<String>, statuses: &'static [u16], then: Then, behind: &[&str]) -> Vector {
    Vector { name, send: send.into(), statuses, then, behind: behind.iter().map(|request| (*request).to_owned()).collect() }
}

/// Refused at once, nothing behind.
fn bad(name: &'static str, send: impl Into<String>) -> Vector {
    vector(name, send, &[400], Closes, &[])
}

/// A POST with these fields and this body.
fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n\r\n{body}")
}

/// A GET with these fields.
fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n\r\n")
}

fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n")
}

/// What the backend sees of a GET without fields.
const BARE: &str = "GET /x HTTP/1.1\r\nhost: shop.example\r\n\r\n";
/// What an attacker hides.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.example\r\n\r\n";

fn hosts() -> Vec<Vector> {
    vec![
        vector("control: a plain request", target("/x"), &[200], Stays, &[BARE]),
        bad("two hosts", get("Host: evil.example")),
        bad("the same host twice", get("Host: shop.example")),
        bad("two hosts, odd case", get("hOsT: evil.example")),
        bad("no host", "GET /x HTTP/1.1\r\n\r\n"),
        bad("no host, HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n"),
        bad("empty host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n"),
        bad("host with path and user", "GET /x HTTP/1.1\r\nHost: a/b@c\r\n\r\n"),
        bad("host with user", "GET /x HTTP/1.1\r\nHost: admin@shop.example\r\n\r\n"),
        bad("host list", "GET /x HTTP/1.1\r\nHost: shop.example, evil.example\r\n\r\n"),
        bad("host with space before the colon", "GET /x HTTP/1.1\r\nHost : shop.example\r\n\r\n"),
        bad("absolute form for another host", target("http://evil.example/x")),
        bad("absolute form with user", target("http://shop.example@evil.example/x")),
        bad("absolute form without host", "GET http://shop.example/x HTTP/1.1\r\n\r\n"),
        bad("absolute form of another scheme", target("gopher://shop.example/x")),
        vector("control: absolute form for the same host", target("http://Shop.example:80/x"), &[200], Stays, &[BARE]),
    ]
}

fn framing() -> Vec<Vector> {
    let chunked = "0\r\n\r\n";
    let te = |value: &str| post(&format!("Transfer-Encoding: {value}"), &format!("{chunked}{HIDDEN}"));
    let cl = |value: &str| post(&format!("Content-Length: {value}"), &format!("12345{HIDDEN}"));
    let behind_chunked = "POST /x HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
    let behind_length = "POST /x HTTP/1.1\r\ncontent-length: 5\r\nhost: shop.example\r\n\r\nabcde";
    vec![
        vector("control: length", post("Content-Length: 5", "abcde"), &[200], Stays, &[behind_length]),
        vector("control: chunked", post("Transfer-Encoding: chunked", "5\r\nabcde\r\n0\r\n\r\n"), &[200], Stays, &[behind_chunked]),
        vector(
            "control: chunked in odd case",
            post("tRANSFER-eNCODING: ChUnKeD", "2;x=y\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
            &[200],
            Stays,
            &["POST /x HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"],
        ),
        bad("CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 6", &format!("{chunked}{HIDDEN}"))),
        bad("TE: identity, chunked", te("identity, chunked")),
        bad("TE: chunked, identity", te("chunked, identity")),
        bad("TE: identity", te("identity")),
        bad("TE: gzip, chunked", te("gzip, chunked")),
        bad("TE: chunked, chunked", te("chunked, chunked")),
        bad("TE: xchunked", te("xchunked")),
        bad("TE: \"chunked\"", te("\"chunked\"")),
        bad("TE: chunked;q=1", te("chunked;q=1")),
        bad("TE: vertical tab", te("\u{b}chunked")),
        bad("TE twice", te("chunked\r\nTransfer-Encoding: chunked")),
        bad("TE twice, the second unknown", te("chunked\r\nTransfer-Encoding: cow")),
        bad("TE folded", post("Transfer-Encoding:\r\n chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE behind a folded line", post("X: y\r\n Transfer-Encoding: chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE with space before the colon", post("Transfer-Encoding : chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE with underscore", post("Transfer_Encoding: chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE behind a bare line feed", post("X: y\nTransfer-Encoding: chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE behind a bare carriage return", post("X: y\rTransfer-Encoding: chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE behind NUL", post("X: \0\r\nTransfer-Encoding: chunked", &format!("{chunked}{HIDDEN}"))),
        bad("TE in HTTP/1.0", "POST /x HTTP/1.0\r\nHost: shop.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        bad("CL twice, the same", post("Content-Length: 5\r\nContent-Length: 5", "abcde")),
        bad("CL twice, different", post("Content-Length: 5\r\nContent-Length: 0", HIDDEN)),
        bad("CL twice in one line", cl("5, 5")),
        bad("CL with plus", cl("+5")),
        bad("CL with minus", cl("-5")),
        bad("CL in hexadecimal", cl("0x5")),
        bad("CL with a space in it", cl("5 5")),
        bad("CL empty", cl("")),
        bad("CL beyond 64 bits", cl("18446744073709551621")),
        bad("CL with underscore", post("Content_Length: 5", "abcde")),
        bad("CL named in Connection", post("Connection: Content-Length\r\nContent-Length: 5", "abcde")),
        bad("bare line feeds only", "GET /x HTTP/1.1\nHost: shop.example\n\n"),
        bad("a name of nothing", get(": x")),
        bad("a line without colon", get("x")),
    ]
}

fn chunks() -> Vec<Vector> {
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    vec![
        bad("chunk size is no number", chunked("xyz\r\n0\r\n\r\n")),
        bad("chunk size with 0x", chunked("0x5\r\nabcde\r\n0\r\n\r\n")),
        bad("chunk size with plus", chunked("+5\r\nabcde\r\n0\r\n\r\n")),
        bad("chunk size empty", chunked("\r\nabcde\r\n0\r\n\r\n")),
        bad("chunk size beyond 64 bits", chunked("10000000000000005\r\nabcde\r\n0\r\n\r\n")),
        bad("chunk size line ends in a bare line feed", chunked("5\nabcde\r\n0\r\n\r\n")),
        bad("chunk extension with a bare line feed", chunked("5;a\nb\r\nabcde\r\n0\r\n\r\n")),
        bad("chunk longer than it says", chunked("5\r\nabcdef\r\n0\r\n\r\n")),
        bad("chunk ends in a bare line feed", chunked("5\r\nabcde\n0\r\n\r\n")),
        vector(
            "trailers that would be headers",
            chunked("5\r\nabcde\r\n0\r\nContent-Length: 50\r\nHost: evil\r\nWeft-Assertion: x\r\n\r\n"),
            &[200],
            Stays,
            &["POST /x HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"],
        ),
    ]
}

fn rest() -> Vec<Vector> {
    let websocket = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    vec![
        vector("TRACE", "TRACE /x HTTP/1.1\r\nHost: shop.example\r\n\r\n", &[405], Closes, &[]),
        vector("CONNECT", "CONNECT shop.example:80 HTTP/1.1\r\nHost: shop.example:80\r\n\r\n", &[405], Closes, &[]),
        // Whoever means HTTP/2 would read an answer as frames: there is none.
        vector("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[], Closes, &[]),
        bad("HTTP/0.9", "GET /x\r\n\r\n"),
        bad("two spaces", "GET  /x HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
        bad("a tab for a space", "GET\t/x HTTP/1.1\r\nHost: shop.example\r\n\r\n"),
        bad("a space in the target", target("/x HTTP/1.1\u{20}")),
        bad("underscore in an assertion's name", get("Weft_Assertion: x")),
        bad("dot in a name", get("X.Forwarded.For: 1.2.3.4")),
        bad("a forwarded header named in Connection", get("Connection: close, X-Forwarded-For")),
        vector("a header for this connection only", get("Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy: evil"), &[200], Stays, &[BARE]),
        vector(
            "an upgrade to h2c is passed over",
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
            &[200],
            Stays,
            &[BARE],
        ),
        bad("a WebSocket with a body", get(&format!("{websocket}\r\nSec-WebSocket-Version: 13\r\nContent-Length: 5"))),
        bad("a WebSocket of another version", get(&format!("{websocket}\r\nSec-WebSocket-Version: 777"))),
        vector(
            "a WebSocket that the backend does not open is no tunnel",
            format!("{}{}", get(&format!("{websocket}\r\nSec-WebSocket-Version: 13")), target("/%2e%2e/x")),
            &[200, 200],
            Stays,
            &[
                "GET /x HTTP/1.1\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
                BARE,
            ],
        ),
        bad("encoded slash", target("/a%2f..%2fx")),
        bad("backslash", target("/a\\..\\x")),
        bad("encoded NUL", target("/x%00.html")),
        bad("encoded line end", target("/x%0d%0aHost:%20evil")),
        bad("double encoding", target("/%252e%252e/x")),
        bad("overlong encoding", target("/%c0%ae%c0%ae/x")),
        bad("a fragment", target("/public#/../x")),
        bad("a dot segment with a parameter", target("/public/..;/x")),
        vector("dot segments, encoded letters and slashes", target("/public/%2e%2E//./%78"), &[200], Stays, &[BARE]),
        vector(
            "the query is nobody's path",
            target("/x?a=/../%2e%2f&b=%00"),
            &[200],
            Stays,
            &["GET /x?a=/../%2e%2f&b=%00 HTTP/1.1\r\nhost: shop.example\r\n\r\n"],
        ),
        vector("an expectation that nobody has", post("Expect: 42\r\nContent-Length: 5", "abcde"), &[417], Stays, &[]),
        vector("too many headers", get(&"X: y\r\n".repeat(200)), &[431], Closes, &[]),
        vector("a header too large", get(&format!("X: {}", "y".repeat(40_000))), &[431], Closes, &[]),
        vector("a body too large", post("Content-Length: 99999999999", ""), &[413], Closes, &[]),
        vector("a good one before a bad one", format!("{}{}", target("/x"), get("Host: evil.example")), &[200, 400], Closes, &[BARE]),
        vector("a bad one before a good one", format!("{}{}", get("Host: evil.example"), target("/x")), &[400], Closes, &[]),
        vector("two good ones", format!("{}{}", target("/x"), target("/x")), &[200, 200], Stays, &[BARE, BARE]),
        vector(
            "a GET with a body that looks like a request",
            format!("GET /x HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
            &[200],
            Stays,
            &["GET /x HTTP/1.1\r\ncontent-length: 44\r\nhost: shop.example\r\nconnection: close\r\n\r\nGET /hidden HTTP/1.1\r\nHost: shop.example\r\n\r\n"],
        ),
    ]
}

async fn check(vector: Vector) -> Result<(), String> {
    let backend = Backend::start().await;
    let gateway = Gateway::start(backend.endpoint).await;
    let mut client = gateway.connect().await;
    client.send(&vector.send).await;
    let mut statuses = Vec::new();
    while statuses.len() < vector.statuses.len() {
        let Some(answer) = client.answer().await else { break };
        statuses.push(answer.status);
    }
    let then = if vector.then == Stays && client.is_quiet().await { Stays } else { Closes };
    let ended = vector.then == Stays || client.is_closed().await;
    let behind = backend.requests();
    if statuses == vector.statuses && then == vector.then && ended && behind == vector.behind {
        return Ok(());
    }
    let name = vector.name;
    Err(format!(
        "{name}\n   expected {:?}, {:?}, behind {:#?}\n   found    {statuses:?}, {then:?} (in order: {ended}), behind {behind:#?}",
        vector.statuses, vector.then, vector.behind
    ))
}

#[tokio::test]
async fn what_two_readers_could_read_differently_does_not_come_through() {
    let vectors: Vec<Vector> = [hosts(), framing(), chunks(), rest()].into_iter().flatten().collect();
    assert!(vectors.len() >= 40, "{}", vectors.len());
    let mut running = tokio::task::JoinSet::new();
    vectors.into_iter().for_each(|vector| drop(running.spawn(check(vector))));
    let failures: Vec<String> = running.join_all().await.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} vectors:\n{}", failures.len(), failures.join("\n"));
}
