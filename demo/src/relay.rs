//! The shop's window on the host: a port on loopback, each connection of which is carried into the storefront's pod by a process there, as
//! `kubectl port-forward` does. It is a convenience of the demo, not a way into the mesh: the process is part of the storefront.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result};
use weft_lab::Pod;

use crate::{checkout, limits};

const TILL: &str = "127.0.0.1:8080";

/// Serves until the program ends.
pub fn open_window(address: SocketAddr, storefront: &Pod) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot open the shop's window on {address}"))?;
    let pod = storefront.clone();
    let program = checkout::own_program();
    let open = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= limits::RELAYS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (pod, program, open) = (pod.clone(), program.clone(), Arc::clone(&open));
            thread::spawn(move || {
                if let Err(e) = carry(&stream, &pod, &program) {
                    println!("window: {e:#}");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

fn carry(stream: &TcpStream, pod: &Pod, program: &str) -> Result<()> {
    let ends: [OwnedFd; 2] = [stream.try_clone()?.into(), stream.try_clone()?.into()];
    let [input, output] = ends.map(Stdio::from);
    let mut child = pod.place().command(&[program, "relay", TILL]).stdin(input).stdout(output).spawn()?;
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
    io::copy(&mut &stream, &mut io::stdout().lock())?;
    Ok(())
}
