//! Two nodes, a pod on each, a machine outside; a marker goes over the wire and is found there; nothing is left. Needs root:
//! `cargo build -p weft-lab --example two_nodes && sudo target/debug/examples/two_nodes`.

use std::time::Duration;

use weft_lab::{Capture, Inventory, Lab, LabError, eventually};

const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let before = Inventory::take();
    run()?;
    eventually(DEADLINE, "the machine as it was", || Inventory::take().same_as(&before))?;
    println!("nothing left");
    Ok(())
}

fn run() -> Result<(), LabError> {
    let mut lab = Lab::new("example")?;
    let outside = lab.machine("outside", &["203.0.113.10".parse().map_err(|e| LabError::Malformed(format!("{e}")))?])?;
    let (a, b) = (lab.node("a")?, lab.node("b")?);
    let (client, server) = (a.pod("client")?, b.pod("server")?);
    let wire = Capture::start(lab.wire(), "wire", "wire", "tcp")?;
    for (from, to) in [(client.place(), server.v4().to_string()), (client.place(), server.v6().to_string()), (client.place(), "203.0.113.10".to_owned())] {
        let script = format!("exec 3<>/dev/tcp/{to}/8080 && printf 'GET /marker-in-plain HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3 >/dev/null");
        let place = if to.starts_with("203") { outside.place() } else { server.place() };
        let mut http = place.spawn("http", &["python3", "-m", "http.server", "8080", "--bind", "::"])?;
        eventually(DEADLINE, &format!("a connection to {to}"), || from.check(&["bash", "-c", &script], DEADLINE))?;
        println!("client reached {to}");
        http.stop();
    }
    let captured = wire.stop()?;
    println!("{} packets, marker on the wire: {}", captured.packets.len(), captured.contains(b"/marker-in-plain"));
    println!("{}", Inventory::take());
    let mut doomed = server.place().spawn("sleep", &["sleep", "1000"])?;
    doomed.still_running()?;
    server.remove()
}
