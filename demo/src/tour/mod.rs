//! `weft-demo check`: the tour without a person. Every claim is judged from outside (packets on the wire, errno of clients, certificates shown to a stranger, rows in
//! SQL), and has a control: the same look at something that differs in one thing and must come out the other way.

mod endurance;
mod look;
mod people;
mod report;
mod verdicts;
mod wire;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::Instant,
};

use anyhow::{Result, anyhow};
use weft_host::DEMO_WINDOW as WINDOW;
use weft_lab::{Capture, Inventory, eventually};

use self::{look::marker, report::Report};
use crate::{
    checkout::Checkout,
    door::Door,
    limits,
    mesh::Mesh,
    relay,
    shop::{self, Shop},
    stage::{self, Stage},
};

/// What the tour walks through.
struct Tour {
    mesh: Mesh,
    shop: Shop,
    door: Door,
    stage: Stage,
    before: Before,
}

/// What was seen on the same stage before there was a mesh: the control of most claims.
struct Before {
    /// Packets between the nodes, and whether the marker of a purchase was found in them.
    wire_packets: usize,
    /// What a stranger got who dialled the database.
    stranger: String,
}

pub fn run() -> Result<()> {
    stage::require()?;
    let checkout = Checkout::find()?;
    let (start, mut report) = (Instant::now(), Report::default());
    println!("setting the stage: two nodes, ten pods, a bank outside");
    let stage = Stage::set(limits::STAGE_PATIENCE)?;
    let work = stage.lab.work().to_owned();
    let (before, _held) = (stage.lab.before().clone(), stage.lab.hold()?);
    let most = walk(stage, &checkout, &mut report)?;
    report.claim("after the demo nothing is left but installed packages", || {
        eventually(limits::ACT_DEADLINE, "an empty inventory", || left(&before, &work))?;
        Ok(("no namespace, cgroup, mount, pin, kernel program, process or file".to_owned(), format!("the same listing had {most} lines while it ran")))
    })?;
    println!("{} claims hold; {:.0} s", report.count(), start.elapsed().as_secs_f32());
    Ok(())
}

fn left(before: &Inventory, work: &Path) -> Result<()> {
    let mut lines: Vec<_> = Inventory::take().since(before).into_iter().map(str::to_owned).collect();
    if work.exists() {
        lines.push("its work directory".to_owned());
    }
    if lines.is_empty() { Ok(()) } else { Err(anyhow!("left behind: {}", lines.join("; "))) }
}

fn walk(mut stage: Stage, checkout: &Checkout, report: &mut Report) -> Result<usize> {
    let mut shop = Shop::lay(&mut stage, checkout)?;
    let door = Door::lay(&mut stage)?;
    let catalog = stage.lab.work().join("catalog");
    shop::copy_catalog(checkout, &catalog)?;

    println!("the control: the same shop on the same stage, without a mesh");
    let before = without_mesh(&stage, &mut shop, &door, report)?;

    println!("now the mesh: bridge, agents, enrolment; then the same programs again");
    let bridge = Mesh::start_bridge(&stage, &catalog)?;
    let mesh = Mesh::start(&stage, &shop, &door, bridge)?;
    mesh.wait_enrolled(&shop, &door)?;
    shop.start(&door)?;
    let mut tour = Tour { mesh, shop, door, stage, before };
    wire::claims(&mut tour, report)?;
    verdicts::claims(&mut tour, &catalog, report)?;
    people::claims(&mut tour, report)?;
    endurance::claims(&mut tour, report)?;
    report.claim("the shop's window on the host shows the shop", || window(&tour.shop))?;
    let most = Inventory::take().since(tour.stage.lab.before()).len();
    tour.door.close()?;
    tour.shop.stop()?;
    Ok(most)
}

fn window(shop: &Shop) -> Result<(String, String)> {
    let closed = TcpStream::connect(WINDOW).err().ok_or_else(|| anyhow!("something answers on {WINDOW} before the window is opened"))?;
    relay::open_window(WINDOW, &shop.storefront)?;
    let mut stream = TcpStream::connect(WINDOW)?;
    stream.set_read_timeout(Some(limits::ACT_DEADLINE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {WINDOW}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let status = page.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") || !page.contains("mug") {
        return Err(anyhow!("http://{WINDOW} answered {status:?}, and no mug is for sale there"));
    }
    Ok((format!("http://{WINDOW} answered \"{status}\", with a mug for sale"), format!("before it was opened: {closed}")))
}

fn without_mesh(stage: &Stage, shop: &mut Shop, door: &Door, report: &mut Report) -> Result<Before> {
    shop.write_plain_hosts()?;
    shop.start(door)?;
    let (mut packets, mut stranger) = (0, String::new());
    report.claim("without a mesh the wire carries every word", || {
        let capture = Capture::start(stage.lab.wire(), "before", "wire", "tcp")?;
        let name = marker("plain");
        let row = look::purchase(shop, &name)?;
        let captured = capture.stop()?;
        if !captured.contains(name.as_bytes()) {
            return Err(anyhow!("the marker {name} of a purchase was not found among {} packets: the search itself is broken", captured.packets.len()));
        }
        packets = captured.packets.len();
        stranger = look::attempt(shop.bank.place(), &shop.database.v4().to_string(), 5432)?;
        Ok((format!("marker {name} found in {packets} packets between the nodes, {row}"), format!("a stranger dials the database: {stranger}")))
    })?;
    shop.stop()?;
    Ok(Before { wire_packets: packets, stranger })
}
