//! Claims about people: they come from this machine to the gateway's public port with curl, a cookie jar each, and the password of this run.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use weft_host::DEMO_DOOR;
use weft_lab::{Capture, eventually};

use super::{
    Tour,
    look::{self, attempt_is, marker},
    report::Report,
};
use crate::{
    cli,
    door::{Door, User},
    limits,
};

/// Somebody with a browser, as far as curl is one.
struct Person {
    jar: PathBuf,
}

struct Seen {
    status: u16,
    /// Where redirects led.
    at: String,
    body: String,
}

pub(super) fn claims(tour: &mut Tour, report: &mut Report) -> Result<()> {
    tour.door.open(&tour.mesh.bridge)?;
    tour.door.open_to_this_machine()?;
    let jars = tour.stage.lab.work().join("jars");
    fs::create_dir_all(&jars)?;
    let person = |name: &str| Person { jar: jars.join(name) };
    let (alice, bob, olga, nobody) = (person("alice"), person("bob"), person("olga"), person("nobody"));
    let users = &tour.door;

    report.claim("the shop is open to everybody, its orders are not", || {
        let shop = nobody.get(&at("shop", "/"))?.is(200, "mug")?;
        let orders = nobody.get_as_program(&at("orders", "/"))?.is(401, "sign_in_required")?;
        Ok((format!("a program that asks for the orders: {} {}", orders.status, orders.word("error")), format!("the same asks for the shop: {}", shop.status)))
    })?;
    report.claim("alice signs in once, and no password crosses the wire in the clear", || {
        let capture = Capture::start(tour.stage.lab.wire(), "people", "wire", "tcp")?;
        let user = users.user("alice")?;
        let seen = alice.sign_in(&at("orders", "/"), user)?.is(200, "<h1>Orders")?;
        let shop = alice.get(&at("shop", "/buy?sku=mug"))?.is(200, "<b id=who>alice</b>")?;
        let captured = capture.stop()?;
        ensure!(captured.packets.len() > 10, "{} packets crossed the wire: the provider is on the other node, so there must be more", captured.packets.len());
        ensure!(!captured.contains(user.password.as_bytes()), "the password was found on the wire");
        Ok((
            format!("{} shows the orders, {} greets her without a question; the password in none of {} packets", seen.at, shop.at, captured.packets.len()),
            format!("without a mesh every word was found in {} packets", tour.before.wire_packets),
        ))
    })?;
    report.claim("bob is refused with words that help", || {
        let refused = bob.sign_in(&at("orders", "/"), users.user("bob")?)?.is(403, "sales")?;
        ensure!(refused.body.contains("team-orders"), "the page does not say whose the orders are");
        let json = bob.get_as_program(&at("orders", "/"))?.is(403, "missing-group")?;
        let flow = json.word("flow");
        let why = eventually(limits::CATALOG_DEADLINE, "the flow of a refused request", || {
            let said = cli::said(&cli::run(&["why", &flow])?);
            if said.contains("sales") && said.contains("user:bob") { Ok(said) } else { Err(anyhow::anyhow!("`weft why {flow}` said {said}")) }
        })?;
        let line = why.lines().find(|l| l.contains("sales")).unwrap_or_default().trim();
        Ok((format!("403, and `weft why {flow}`: {line}"), "alice, who is in sales, got 200".to_owned()))
    })?;
    report.claim("the portal shows each exactly what they may open", || {
        olga.sign_in(&at("portal", "/"), users.user("olga")?)?.is(200, "Prometheus")?;
        let shown = [alice.apps()?, bob.apps()?, olga.apps()?];
        let wanted = [vec!["orders", "shop"], vec!["shop"], vec!["prometheus", "shop"]];
        for (apps, wanted) in shown.iter().zip(&wanted) {
            ensure!(apps == wanted, "the portal shows {apps:?}, not {wanted:?}");
        }
        Ok((format!("alice {}, olga {}", shown[0].join(" "), shown[2].join(" ")), format!("bob {}", shown[1].join(" "))))
    })?;
    report.claim("a program without a login of its own is for operators only", || prometheus(tour, &alice, &olga))?;
    report.claim("an order of alice is settled by the bank, from outside", || settled(tour, &alice, &nobody))?;
    report.claim("whoever signs out is nobody", || {
        let before = alice.get_as_program(&at("orders", "/"))?.is(200, "Orders")?;
        let form = ["-X", "POST", "-H", "Origin: https://orders.localhost:8443", "-d", ""];
        alice.ask(&at("orders", "/.weft/logout"), &form)?;
        let after = alice.get_as_program(&at("orders", "/"))?.is(401, "sign_in_required")?;
        let shop = alice.get_as_program(&at("shop", "/buy?sku=mug"))?.is(401, "sign_in_required")?;
        Ok((format!("orders {}, shop {}", after.status, shop.status), format!("a moment before: {}", before.status)))
    })
}

fn prometheus(tour: &Tour, alice: &Person, olga: &Person) -> Result<(String, String)> {
    let page = olga.get(&at("prometheus", "/graph"))?.is(200, "Prometheus")?;
    let up = eventually(limits::PROGRAM_DEADLINE, "Prometheus to have scraped both agents", || {
        let said: Value = serde_json::from_str(&olga.get_as_program(&at("prometheus", "/api/v1/query?query=up"))?.body)?;
        let results = said["data"]["result"].as_array().map_or(0, |all| all.iter().filter(|one| one["value"][1] == "1").count());
        if results == 2 { Ok(results) } else { bail!("{results} of 2 agents are up: {said}") }
    })?;
    let refused = alice.get(&at("prometheus", "/graph"))?.is(403, "operators")?;
    let pod = tour.door.pods()[2].1.v4().to_string();
    attempt_is("ECONNREFUSED", tour.door.visitor().place(), &pod, 9090)?;
    Ok((
        format!("olga sees {} with {up} agents scraped ({})", page.at, page.status),
        format!("alice, who is no operator: {}; a visitor who dials its port himself: ECONNREFUSED", refused.status),
    ))
}

fn settled(tour: &Tour, alice: &Person, nobody: &Person) -> Result<(String, String)> {
    let name = marker("alice");
    alice.post(&at("shop", &format!("/buy?sku=mug&quantity=1&customer={name}")), "{}")?.is(200, "payment")?;
    let row = look::row(&tour.shop, &name)?;
    eventually(limits::ACT_DEADLINE, "the bank to settle the payment", || {
        let state = tour.shop.sql(&format!("SELECT settled FROM orders WHERE customer = '{name}'"))?;
        if state == "t" { Ok(()) } else { bail!("settled is {state:?}") }
    })?;
    let callback = at("hooks", "/payments/settled");
    let unknown = nobody.post(&callback, "{\"receipt\": \"pay-none\"}")?.is(404, "settled")?;
    let looked = nobody.get_as_program(&callback)?.is(405, "")?;
    Ok((format!("{row}, settled"), format!("a receipt that nobody gave: {}; GET instead of POST: {}", unknown.status, looked.status)))
}

fn at(host: &str, path: &str) -> String {
    format!("https://{host}.localhost:{}{path}", DEMO_DOOR.port())
}

impl Person {
    /// Opens a page, as a browser does that cannot show it.
    fn get(&self, url: &str) -> Result<Seen> {
        self.ask(url, &["-H", "Accept: text/html"])
    }

    fn get_as_program(&self, url: &str) -> Result<Seen> {
        self.ask(url, &["-H", "Accept: application/json"])
    }

    fn post(&self, url: &str, body: &str) -> Result<Seen> {
        self.ask(url, &["-H", "Content-Type: application/json", "-d", body])
    }

    /// Hosts that the portal leads to.
    fn apps(&self) -> Result<Vec<String>> {
        let page = self.get(&at("portal", "/"))?.is(200, "<main")?.body;
        let hosts = page.split("href=\"https://").skip(1).filter_map(|rest| rest.split_once(".localhost")).map(|(host, _)| host.to_owned());
        let mut apps: Vec<String> = hosts.filter(|host| host != "portal").collect();
        apps.sort();
        apps.dedup();
        Ok(apps)
    }

    /// Opens a page that leads to the login, fills the form in, and ends where it leads to.
    fn sign_in(&self, url: &str, user: &User) -> Result<Seen> {
        let form = self.get(url)?.is(200, "name=\"password\"")?;
        let hidden = |name: &str| {
            let found = form.body.split_once(&format!("name=\"{name}\" value=\"")).and_then(|(_, rest)| rest.split_once('"'));
            found.map(|(value, _)| format!("{name}={}", value.replace("&amp;", "&"))).with_context(|| format!("the login form has no {name}"))
        };
        let (request, proof) = (hidden("request")?, hidden("proof")?);
        let name = format!("username={}", user.name);
        let origin = format!("Origin: https://id.localhost:{}", DEMO_DOOR.port());
        let mut arguments = vec!["-H", "Accept: text/html", "-H", &origin];
        // From standard input: an argument is for everybody to see.
        for field in [&request, &proof, &name, "password@-"] {
            arguments.extend(["--data-urlencode", field]);
        }
        self.tell(&at("id", "/login"), &arguments, &user.password)
    }

    fn ask(&self, url: &str, arguments: &[&str]) -> Result<Seen> {
        self.tell(url, arguments, "")
    }

    fn tell(&self, url: &str, arguments: &[&str], input: &str) -> Result<Seen> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-L", "--max-redirs", "20", "--max-time", "30", "-w", "\n%{http_code} %{url_effective}", "--cacert"]).arg(Door::ca());
        curl.arg("-b").arg(&self.jar).arg("-c").arg(&self.jar).args(arguments).arg(url);
        let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("curl cannot be run")?;
        // Dropped, so that it ends.
        child.stdin.take().context("curl has no input")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "curl {url}: {}", String::from_utf8_lossy(&output.stderr).trim());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, last) = said.rsplit_once('\n').context("curl said nothing")?;
        let (status, at) = last.split_once(' ').context("curl said no status")?;
        Ok(Seen { status: status.parse()?, at: at.to_owned(), body: body.to_owned() })
    }
}

impl Seen {
    fn is(self, status: u16, part: &str) -> Result<Self> {
        let start: String = self.body.chars().take(300).collect();
        ensure!(self.status == status && self.body.contains(part), "{} answered {} (not {status} with {part:?}): {start}", self.at, self.status);
        Ok(self)
    }

    /// A field of a JSON answer.
    fn word(&self, name: &str) -> String {
        serde_json::from_str::<Value>(&self.body).ok().and_then(|v| v[name].as_str().map(str::to_owned)).unwrap_or_default()
    }
}
