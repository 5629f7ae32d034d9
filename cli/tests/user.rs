//! `weft user` against a stand-in that writes down what it is told; on a pipe, and on a real terminal.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use weft_api::bridge::v1::{self as wire, users_server};

const PASSWORD: &str = "correct horse battery";
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Default)]
struct StandIn {
    told: Arc<Mutex<Vec<String>>>,
}

impl StandIn {
    fn tell(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }
}

fn user(name: &str, groups: Vec<String>) -> wire::User {
    wire::User { name: name.to_ascii_lowercase(), subject: "s".into(), groups, disabled: name == "mallory", created_at: 1, sessions: 2 }
}

/// What the real one gives back: a password only if it was asked for one.
fn made(given: &str) -> String {
    if given.is_empty() { "made-for-you".into() } else { String::new() }
}

#[tonic::async_trait]
impl users_server::Users for StandIn {
    async fn add(&self, request: Request<wire::AddUserRequest>) -> Result<Response<wire::AddUserResponse>, Status> {
        let wire::AddUserRequest { name, groups, password } = request.into_inner();
        self.tell(format!("add {name} {} {password}", groups.join("+")));
        Ok(Response::new(wire::AddUserResponse { user: Some(user(&name, groups)), password: made(&password) }))
    }

    async fn set_password(&self, request: Request<wire::SetUserPasswordRequest>) -> Result<Response<wire::SetUserPasswordResponse>, Status> {
        let wire::SetUserPasswordRequest { name, password } = request.into_inner();
        self.tell(format!("password {name} {password}"));
        Ok(Response::new(wire::SetUserPasswordResponse { password: made(&password) }))
    }

    async fn set_groups(&self, request: Request<wire::SetUserGroupsRequest>) -> Result<Response<wire::User>, Status> {
        let r = request.into_inner();
        self.tell(format!("groups {} replace={} {} +{} -{}", r.name, r.replace, r.groups.join("+"), r.add.join("+"), r.remove.join("+")));
        Ok(Response::new(user(&r.name, r.groups)))
    }

    async fn set_disabled(&self, request: Request<wire::SetUserDisabledRequest>) -> Result<Response<wire::SetUserDisabledResponse>, Status> {
        let r = request.into_inner();
        self.tell(format!("disabled {} {}", r.name, r.disabled));
        Ok(Response::new(wire::SetUserDisabledResponse {}))
    }

    async fn remove(&self, request: Request<wire::RemoveUserRequest>) -> Result<Response<wire::RemoveUserResponse>, Status> {
        let name = request.into_inner().name;
        self.tell(format!("remove {name}"));
        if name == "nobody" {
            Err(Status::not_found("there is no user nobody: weft user list shows all"))
        } else {
            Ok(Response::new(wire::RemoveUserResponse {}))
        }
    }

    async fn list(&self, _: Request<wire::ListUsersRequest>) -> Result<Response<wire::ListUsersResponse>, Status> {
        Ok(Response::new(wire::ListUsersResponse { users: vec![user("alice", vec!["sales".into(), "support".into()]), user("mallory", vec![])] }))
    }
}

struct Stand {
    dir: TempDir,
    bridge: StandIn,
}

impl Stand {
    async fn new() -> Self {
        let (dir, bridge) = (tempfile::tempdir().unwrap(), StandIn::default());
        let incoming = UnixListenerStream::new(UnixListener::bind(dir.path().join("b.sock")).unwrap());
        tokio::spawn(Server::builder().add_service(users_server::UsersServer::new(bridge.clone())).serve_with_incoming(incoming));
        Self { dir, bridge }
    }

    fn command(&self, args: &[&str]) -> Command {
        let config = self.dir.path().join("config.toml");
        std::fs::write(&config, format!("bridge = {:?}\n", self.dir.path().join("b.sock"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(args).env("WEFT_CONFIG", config).env_remove("RUST_BACKTRACE").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Exit code, stdout, stderr.
    fn weft(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().unwrap();
        // It may have ended without reading.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.bridge.told.lock().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_comes_from_standard_input_or_is_made_and_shown_once() {
    let stand = Stand::new().await;
    let (code, out, err) = stand.weft(&["user", "add", "Alice", "--groups", "sales,support"], &format!("{PASSWORD}\nmore\n"));
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "weft: user alice is added, in sales, support\n"));
    assert_eq!(stand.told(), [format!("add Alice sales+support {PASSWORD}")]);
    let (code, out, err) = stand.weft(&["user", "add", "bob", "--group", "sales", "--generate"], "");
    assert_eq!((code, out.as_str(), err.as_str()), (0, "made-for-you\n", "weft: user bob is added, in sales\n"));
    let (code, out, err) = stand.weft(&["user", "passwd", "bob", "--generate", "-o", "json"], "");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), serde_json::json!({ "name": "bob", "password": "made-for-you" }));
    let (code, out, _) = stand.weft(&["user", "passwd", "bob"], PASSWORD);
    assert_eq!((code, out.as_str(), stand.told().last().unwrap().as_str()), (0, "", format!("password bob {PASSWORD}").as_str()));
    let (code, _, err) = stand.weft(&["user", "add", "carol"], "");
    assert_eq!((code, stand.told().len()), (2, 0));
    assert!(err.contains("there is no password on standard input") && err.contains("--generate"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_shown_replaced_or_changed() {
    let stand = Stand::new().await;
    for (args, told) in [
        (&["groups", "alice", "sales", "support"][..], "groups alice replace=true sales+support + -"),
        (&["groups", "alice", "sales,support"], "groups alice replace=true sales+support + -"),
        (&["groups", "alice", "--none"], "groups alice replace=true  + -"),
        (&["groups", "alice", "--add", "a,b", "--remove", "c"], "groups alice replace=false  +a+b -c"),
        (&["disable", "alice"], "disabled alice true"),
        (&["enable", "alice"], "disabled alice false"),
        (&["rm", "alice"], "remove alice"),
    ] {
        let (code, _, err) = stand.weft(&[&["user"], args].concat(), "");
        assert_eq!((code, stand.told()), (0, vec![told.to_owned()]), "{args:?}: {err}");
    }
    let (code, out, _) = stand.weft(&["user", "groups", "ALICE"], "");
    assert_eq!((code, out.as_str(), stand.told().len()), (0, "sales\nsupport\n", 0), "asking changes nothing");
    let (code, _, err) = stand.weft(&["user", "groups", "nobody"], "");
    assert!(code == 2 && err.contains("there is no user nobody"), "{err}");
    let (code, _, err) = stand.weft(&["user", "rm", "nobody"], "");
    assert!(code == 2 && err.contains("there is no user nobody: weft user list shows all"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_shows_who_may_sign_in() {
    let stand = Stand::new().await;
    let (code, out, _) = stand.weft(&["user", "list"], "");
    assert_eq!(code, 0);
    let lines: Vec<Vec<&str>> = out.lines().map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
    assert_eq!(lines[0], ["NAME", "GROUPS", "MAY SIGN IN", "SESSIONS", "ADDED"]);
    assert_eq!((&lines[1][..4], &lines[2][..4]), (&["alice", "sales, support", "yes", "2"][..], &["mallory", "-", "no: disabled", "2"][..]));
}

/// What the terminal shows until a text stands in it.
fn until(terminal: &mut std::fs::File, shown: &mut String, text: &str) {
    let (start, mut buffer) = (Instant::now(), [0; 1024]);
    while !shown.contains(text) {
        assert!(start.elapsed() < DEADLINE, "no {text:?} in {shown:?}");
        let read = terminal.read(&mut buffer).unwrap_or(0);
        shown.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_it_is_asked_for_twice_and_never_shown() {
    let stand = Stand::new().await;
    for (second, code) in [(PASSWORD, Some(0)), ("another horse", Some(2)), ("\x03", Some(2))] {
        let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&main).unwrap();
        unlockpt(&main).unwrap();
        let name = ptsname(&main, Vec::new()).unwrap().into_string().unwrap();
        let side = || std::fs::OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let before = tcgetattr(side()).unwrap();
        let held = side();
        let mut child = stand.command(&["user", "add", "alice"]).stdin(side()).stderr(side()).spawn().unwrap();
        let (mut terminal, mut shown) = (std::fs::File::from(main), String::new());
        until(&mut terminal, &mut shown, "New password for alice: ");
        assert!(!tcgetattr(&held).unwrap().local_modes.contains(LocalModes::ECHO));
        terminal.write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
        until(&mut terminal, &mut shown, "The same again: ");
        let end = if second == "\x03" { "" } else { "\n" };
        terminal.write_all(format!("{second}{end}").as_bytes()).unwrap();
        let status = child.wait().unwrap();
        let word = if code == Some(0) { "is added" } else { "weft: " };
        until(&mut terminal, &mut shown, word);
        assert_eq!((status.code(), stand.told().len()), (code, usize::from(code == Some(0))), "{second:?}: {shown}");
        assert!(!shown.contains("horse"), "{shown:?}");
        let after = tcgetattr(&held).unwrap();
        assert_eq!(after.local_modes, before.local_modes, "the terminal is as it was");
    }
}
