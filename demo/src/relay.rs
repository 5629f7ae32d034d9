//! Ports of loopback on the host, each connection of which is carried on by a process in some place of the stage, as `kubectl port-forward` does. The
//! shop's window leads into the storefront's pod, a convenience of the demo and no way into the mesh: the process is part of the storefront. The door
//! leads to a visitor's machine outside of the mesh, who goes to the gateway as everybody does.

use std::{
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use weft_lab::Pod;

use crate::{checkout, limits};

type Run = dyn Fn(&[&str]) -> Command + Send + Sync;

const TILL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

pub fn open_window(address: SocketAddr, storefront: &Pod) -> Result<()> {
    let pod = storefront.clone();
    open(address, TILL, move |argv| pod.place().command(argv))
}

/// Carries what comes to `address` on to `target`, as seen from where commands are run, until the program ends.
pub fn open(address: SocketAddr, target: SocketAddr, run: impl Fn(&[&str]) -> Command + Send + Sync + 'static) -> Result<()> {
    let run: Arc<Run> = Arc::new(run);
    let listener = TcpListener::bind(address).with_context(|| format!("cannot open {address}"))?;
    let program = checkout::own_program();
    let open = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= limits::RELAYS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (run, program, open) = (Arc::clone(&run), program.clone(), Arc::clone(&open));
            thread::spawn(move || {
                if let Err(e) = carry(&stream, run(&[&program, "relay", &target.to_string()])) {
                    println!("{address}: {e:#}");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

fn carry(stream: &TcpStream, mut command: Command) -> Result<()> {
    let ends: [OwnedFd; 2] = [stream.try_clone()?.into(), stream.try_clone()?.into()];
    let [input, output] = ends.map(Stdio::from);
    let mut child = command.stdin(input).stdout(output).spawn()?;
    child.wait()?;
    let _ = stream.shutdown(Shutdown::Both);
    Ok(())
}

/// `weft-demo relay`: standard input to the port, the port to standard output.
pub fn pipe(address: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect(address)?;
    let mut up = stream.try_clone()?;
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    // Not the buffered one: what comes is not lines, and whoever reads waits for it.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    io::copy(&mut &stream, &mut out)?;
    Ok(())
}
