//! The program itself: what it prints, how it ends, and what a kill leaves.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{catalog, service};

struct Program {
    dir: TempDir,
    child: Option<Child>,
}

impl Program {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        catalog(&dir.path().join("catalog"));
        let path = dir.path().display();
        let config = format!("state_dir = \"{path}/state\"\ncatalog = \"{path}/catalog\"\nlisten = \"127.0.0.1:0\"\nadmin_socket = \"{path}/b.sock\"\n");
        fs::write(dir.path().join("b.toml"), config).unwrap();
        Self { dir, child: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft-iam-bridge"));
        command.args(args).arg("--config").arg(self.path("b.toml")).stdin(Stdio::null());
        command
    }

    fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts it and waits until it says that its admin socket is there; gives what it printed.
    fn run(&mut self) -> Vec<String> {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut child = self.command(&["run"]).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap());
        self.child = Some(child);
        let mut lines = Vec::new();
        for line in printed.lines() {
            lines.push(line.unwrap());
            if lines.last().is_some_and(|l| l.starts_with("admin ")) {
                return lines;
            }
        }
        panic!("it ended: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn it_says_where_it_listens_and_ends_when_told() {
    let mut program = Program::new();
    let printed = program.run();
    assert!(printed[0].starts_with("nodes 127.0.0.1:") && !printed[0].ends_with(":0"), "{printed:?}");
    assert_eq!(program.end(Signal::TERM), Some(0));
    assert!(!program.path("b.sock").exists());
}

#[test]
fn a_front_says_where_it_listens_and_ends_when_told() {
    let mut program = Program::new();
    let path = program.dir.path().display();
    fs::write(program.path("b.toml"), format!("[front]\nlisten = \"127.0.0.1:0\"\nprovider = \"{path}/p.sock\"\nbackchannel = \"127.0.0.1:9\"\n")).unwrap();
    let mut child = program.command(&["front"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    program.child = Some(child);
    let addr: std::net::SocketAddr = said.strip_prefix("front ").unwrap().parse().unwrap();
    assert!(addr.port() != 0 && std::net::TcpStream::connect(addr).is_ok(), "{said}");
    assert_eq!(program.end(Signal::TERM), Some(0));
}

#[test]
fn a_start_that_cannot_be_ends_with_2_and_one_reason() {
    let program = Program::new();
    fs::write(program.path("catalog/stock.yaml"), "kind: [").unwrap();
    fs::write(program.path("catalog/orders.yaml"), service("shop/orders", "  unknown: 1\n")).unwrap();
    let refused = program.output(&["run"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("stock.yaml:1") && said.contains("orders.yaml:8"), "{said}");
    let refused = program.output(&["token", "create", "--node", "a"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("is the program running"), "{said}");
    fs::write(program.path("b.toml"), "state = 1\n").unwrap();
    let refused = program.output(&["run"]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("unknown field `state`"), "{said}");
}

#[test]
fn a_kill_loses_nothing_that_was_answered() {
    let mut program = Program::new();
    program.run();
    let ca = fs::read(program.path("state/ca.pem")).unwrap();
    let out = program.path("token");
    let made = program.output(&["token", "create", "--node", "a", "--may-run", "shop/*", "--out", out.to_str().unwrap()]);
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    program.end(Signal::KILL);
    let printed = program.run();
    assert_eq!(fs::read(program.path("state/ca.pem")).unwrap(), ca);
    let token = fs::read_to_string(out).unwrap();
    let address = printed[0].strip_prefix("nodes ").unwrap().parse().unwrap();
    let joined = tokio::runtime::Runtime::new().unwrap().block_on(crate::support::join_at(address, &token, "a"));
    assert_eq!(joined.unwrap().spiffe_id, "spiffe://corp.example/node/a");
}
