//! Serves every page of the gateway with made-up content, to be looked at: `cargo run -p weft-gateway --example pages [ADDRESS]`.
//!
//! No gateway: it signs nobody in, and speaks just enough HTTP for a browser.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
};

use http::StatusCode;
use weft_gateway::{
    pages::{self, App, Brand, Denied, Fault, Frame, Kind, Line, Portal, Problem, Reach, Retry, Sessions, Trouble, Upstream, paths},
    sso::{self, Person},
};
use weft_policy::{AccessReason, Contact, RequestDecision};
use weft_snapshot::{Bookmark, Branding, Logo, LogoKind};
use weft_types::{Revision, RuleId};

const LOGO: &[u8] = br##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 32"><rect width="32" height="32" rx="6" fill="#0a7d55"/><path d="M8 16h16M16 8v16" stroke="#fff" stroke-width="3"/><rect x="42" y="12" width="70" height="8" fill="#0a7d55"/></svg>"##;

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(env::args().nth(1).as_deref().unwrap_or("127.0.0.1:0"))?;
    let origin = format!("http://{}", listener.local_addr()?);
    println!("{origin}/");
    for name in PAGES {
        println!("{origin}/{name}");
    }
    for stream in listener.incoming() {
        // A browser that goes away is no matter here.
        let _ = serve(stream?, &origin);
    }
    Ok(())
}

const PAGES: &[&str] = &[
    "branded",
    "empty",
    "many",
    "hostile",
    "sessions",
    "one-session",
    "denied",
    "denied-many",
    "method",
    "not-found",
    "late",
    "broken",
    "away",
    "draining",
    "refused",
    "internal",
    "choose",
    "sign-out",
    "signed-out",
];

fn serve(mut stream: TcpStream, origin: &str) -> std::io::Result<()> {
    let mut line = String::new();
    let mut lines = BufReader::new(stream.try_clone()?);
    lines.read_line(&mut line)?;
    let mut rest = String::new();
    while lines.read_line(&mut rest)? > 2 {
        rest.clear();
    }
    let target = line.split(' ').nth(1).unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "q").map(|(_, value)| value.into_owned()).unwrap_or_default();
    let brand = brand(path == "/branded");
    let asset = path.strip_prefix(paths::ASSETS).and_then(|name| self::brand(true).asset(name).cloned());
    let targets = [origin.to_owned()];
    let (status, body, headers) = match &asset {
        Some(asset) if self::brand(true).is_logo(asset) => (StatusCode::OK, asset.bytes.to_vec(), pages::headers(Kind::Logo(asset))),
        Some(asset) => (StatusCode::OK, asset.bytes.to_vec(), pages::headers(Kind::Asset(asset))),
        None if path == paths::APPS => {
            let reach = |key: u32| [Reach::Up, Reach::Up, Reach::Up, Reach::Down, Reach::Unknown][(key % 5) as usize];
            let json = pages::apps_json((1..300).map(|key| (RuleId(key), reach(key))));
            (StatusCode::OK, json.to_string().into_bytes(), pages::headers(Kind::Json))
        }
        None => {
            let (status, html) = page(path.trim_start_matches('/'), &query, origin, &brand);
            (status, html.into_bytes(), pages::headers(Kind::Page { form_targets: &targets }))
        }
    };
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len())?;
    for (name, value) in &headers {
        write!(stream, "{name}: {}\r\n", value.to_str().unwrap_or_default())?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&body)
}

fn brand(own: bool) -> Brand {
    let support = "help@corp.example".to_owned();
    if !own {
        return Brand::new(&Branding { support, ..Branding::default() });
    }
    let logo = Some(Logo { kind: LogoKind::Svg, bytes: LOGO.to_vec() });
    Brand::new(&Branding { title: "Corp apps".to_owned(), support, accent: "#0a6847".to_owned(), accent_dark: "#6fd6ab".to_owned(), logo })
}

fn page(name: &str, query: &str, origin: &str, brand: &Brand) -> (StatusCode, String) {
    let person = Person {
        provider: "corp".to_owned(),
        subject: "1".to_owned(),
        user: "alice".to_owned(),
        email: Some("alice@corp.example".to_owned()),
        name: Some("Alice Example".to_owned()),
        groups: ["sales", "staff"].map(str::to_owned).to_vec(),
    };
    let frame = Frame { brand, portal: origin, visitor: Some(&person), csrf: "example" };
    let ask = contacts();
    let problem = |trouble: Trouble<'_>| {
        let reply = pages::problem(&Problem { frame, trouble, flow: "00000000000004d2" });
        (reply.status, reply.html)
    };
    let upstream = |fault, retry| {
        problem(Trouble::Upstream(Upstream { app: "Orders", owner: "team-orders", ask: &ask, status: StatusCode::BAD_GATEWAY, fault, retry, again: Some("/") }))
    };
    match name {
        "" | "branded" => (StatusCode::OK, pages::portal(&Portal { frame, apps: &apps(), bookmarks: &bookmarks().iter().collect::<Vec<_>>(), query })),
        "empty" => (StatusCode::OK, pages::portal(&Portal { frame, apps: &[], bookmarks: &[], query })),
        "many" => {
            let titles: Vec<String> = (0..200).map(|n| format!("Application {n} of two hundred")).collect();
            let apps: Vec<App<'_>> =
                (0_u32..).zip(&titles).map(|(n, title)| app(n, title, "", ["Sales", "Stock", "Operations", ""][(n % 4) as usize])).collect();
            (StatusCode::OK, pages::portal(&Portal { frame, apps: &apps, bookmarks: &[], query }))
        }
        "hostile" => {
            let long = "An application with a very long title that goes on and on ".repeat(4);
            let titles = [
                "<script>alert(1)</script>",
                "\"><img src=x onerror=alert(1)>",
                "לוח בקרה של מכירות",
                "🛒🧵 shop",
                "Unbrokenwordthatneverendsatall".repeat(6).leak(),
                long.leak(),
            ];
            let apps: Vec<App<'_>> = (1..).zip(titles).map(|(n, title)| app(n, title, "none", "<b>Bold</b> & \"quoted\"")).collect();
            (StatusCode::OK, pages::portal(&Portal { frame, apps: &apps, bookmarks: &[], query }))
        }
        "sessions" => (StatusCode::OK, pages::sessions(&Sessions { frame, sessions: &lines() })),
        "one-session" => (StatusCode::OK, pages::sessions(&Sessions { frame, sessions: &lines()[..1] })),
        "denied" | "denied-many" | "method" => {
            let decision = decision(name);
            let reply = pages::denied(&Denied { frame, decision: &decision, method: "DELETE", flow: "00000000000004d2", apps: &[] });
            (reply.status, reply.html)
        }
        "not-found" => problem(Trouble::NotFound { apps: &apps() }),
        "late" => upstream(Fault::Late, Retry::LookFirst),
        "broken" => upstream(Fault::Broken, Retry::Useless),
        "away" => upstream(Fault::Away, Retry::Now),
        "draining" => problem(Trouble::Draining),
        "refused" => problem(Trouble::Refused { status: StatusCode::BAD_REQUEST, sentence: "the path has an encoding that servers read differently" }),
        "internal" => problem(Trouble::Internal),
        "choose" | "sign-out" | "signed-out" => (StatusCode::OK, pages::sign_on(brand, origin, &sign_on_page(name))),
        _ => problem(Trouble::NotFound { apps: &[] }),
    }
}

fn app<'a>(key: u32, title: &'a str, icon: &'a str, category: &'a str) -> App<'a> {
    App { key: RuleId(key), title, url: "https://shop.apps.example/", icon, category, owner: "team-orders", lifecycle: "production" }
}

fn apps() -> Vec<App<'static>> {
    let mut apps = vec![
        app(1, "Orders", "cart", "Sales"),
        app(2, "Customers", "people", "Sales"),
        app(3, "Price lists", "tag", "Sales"),
        app(4, "Campaign planner", "", "Sales"),
        app(5, "Stock", "box", "Warehouse"),
        app(6, "Deliveries", "truck", "Warehouse"),
        app(7, "Invoices", "money", "Finance"),
        app(8, "Monthly report", "chart", "Finance"),
        app(9, "Prometheus", "graph", "Operations"),
        app(10, "Sign-in settings", "key", "Operations"),
    ];
    (apps[3].lifecycle, apps[3].owner) = ("experimental", "team-marketing");
    apps
}

fn bookmarks() -> Vec<Bookmark> {
    let bookmark = |title: &str, url: &str, icon: &str, category: &str| Bookmark {
        title: title.to_owned(),
        url: url.to_owned(),
        icon: icon.to_owned(),
        category: category.to_owned(),
        groups: vec![],
    };
    vec![bookmark("Travel booking", "https://travel.example/", "globe", ""), bookmark("Handbook", "https://handbook.corp.example/start", "book", "Operations")]
}

fn contacts() -> Vec<Contact> {
    let contact = |team: &str, lead: &str, contact: &str, group: Option<&str>| Contact {
        team: team.parse().expect("a team"),
        lead: lead.to_owned(),
        contact: contact.to_owned(),
        group: group.map(str::to_owned),
    };
    vec![
        contact("team-orders", "alice@corp.example", "#orders", None),
        contact("people-office", "people@corp.example", "", Some("sales")),
        contact("people-office", "people@corp.example", "", Some("support")),
    ]
}

fn decision(name: &str) -> RequestDecision {
    let (reason, missing, methods): (_, &[&str], &[&str]) = match name {
        "method" => (AccessReason::Method, &[], &["GET", "POST"]),
        "denied" => (AccessReason::MissingGroup, &["operators"], &[]),
        _ => (AccessReason::MissingGroup, &["sales", "support", "orders-team"], &[]),
    };
    let own = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
    RequestDecision {
        verdict: reason.verdict(),
        reason,
        revision: Revision(1),
        rule: RuleId(7),
        rule_declared_at: Some("shop.yaml:30".to_owned()),
        app: Some(weft_policy::App {
            service: "shop/orders".parse().expect("a service"),
            title: "Orders".to_owned(),
            owner: "team-orders".parse().expect("a team"),
            port: 80,
            route: "shop.apps.example/orders".to_owned(),
            upstream_path: "/".to_owned(),
            declared_at: "shop.yaml:3".to_owned(),
        }),
        group: None,
        missing: own(missing),
        methods: own(methods),
        ask: if name == "denied" { contacts()[..1].to_vec() } else { contacts() },
        nearest_miss: None,
        change: None,
        patch: None,
    }
}

fn lines() -> Vec<Line<'static>> {
    let line = |id: u8, agent: &'static str, begun: u64, this: bool| Line {
        id: format!("{id:032x}"),
        agent,
        begun: 1_795_500_000 - begun,
        last_used: 1_795_590_000 - begun / 2,
        provider: "Corp login",
        this,
    };
    vec![
        line(1, "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", 1000, true),
        line(
            2,
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
            20_000,
            false,
        ),
        line(3, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0", 40_000, false),
        line(4, "", 60_000, false),
    ]
}

fn sign_on_page(name: &str) -> sso::Page {
    let link = |label: &str| (label.to_owned(), "/".to_owned());
    let (title, text, links, button) = match name {
        "choose" => {
            ("How do you want to sign in?", "Choose where you have an account.", vec![link("Corp login"), link("Partners"), link("Local accounts")], None)
        }
        "sign-out" => (
            "Sign out?",
            "You will be signed out of every app behind this gateway, and of the identity provider where it offers that.",
            vec![link("Stay signed in")],
            Some(("Sign out".to_owned(), paths::SIGN_OUT.to_owned())),
        ),
        _ => ("You are signed out", "Your session has ended in every app behind this gateway.", vec![link("Sign in again")], None),
    };
    sso::Page { title: title.to_owned(), text: text.to_owned(), links, button }
}
