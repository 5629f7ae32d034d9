//! What a person typed, as clap reads it. Names are parsed here and trusted from there on; nothing here looks at files or sockets.

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use weft_types::{FlowId, Method, NodeName, Protocol, ServiceRef, Target, Verdict};

use crate::output::Format;

#[derive(Debug, Parser)]
#[command(
    name = "weft",
    version,
    about = "See, ask and change what the mesh does",
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_help = "Exit codes: 0 ok or allow, 1 deny or findings, 2 error.")]
pub struct Args {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file [default: ~/.config/weft/config.toml, then /etc/weft/config.toml]
    #[arg(long, global = true, env = "WEFT_CONFIG", hide_env_values = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Agent socket, instead of the configured ones; may be repeated
    #[arg(long, global = true, value_name = "SOCKET")]
    pub agent: Vec<PathBuf>,
    /// Socket of the IAM bridge, instead of the configured one
    #[arg(long, global = true, value_name = "SOCKET")]
    pub bridge: Option<PathBuf>,
    /// `table` or `wide` for people, `json` for programs
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every node and workload, with enrolment read back from the kernel; exits 1 when something is wrong
    Status(StatusArgs),
    /// List services, workloads, policies, routes or nodes
    Get(GetArgs),
    /// May SRC open a connection to DST, or a person a page? Exits 0 for allow, 1 for deny
    #[command(after_help = CAN_HELP)]
    Can(CanArgs),
    /// Connections and requests with their verdicts, of all agents, in order of time
    Flows(FlowsArgs),
    /// Why one connection or request was allowed or denied, and what would allow it
    Why(WhyArgs),
    /// Check a catalog directory; exits 1 on errors
    Lint(LintArgs),
    /// Certificates that the agents hold
    Certs(CertsArgs),
    /// Start a program as an already enrolled workload
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Run a program inside a workload: its cgroup, network and mount namespace
    #[command(after_help = EXEC_HELP)]
    Exec(ExecArgs),
    /// Is this host able to run an agent? (runs `weft-agent check`)
    Check(CheckArgs),
    /// Version of this program, of the agents and of the bridge
    Version,
    /// Join tokens of nodes
    #[command(subcommand)]
    Token(TokenCommand),
    /// Nodes that the bridge knows
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// People who may sign in with the bridge's own identity provider
    #[command(subcommand, after_help = USER_HELP)]
    User(UserCommand),
    /// Print a completion script for a shell
    Completion {
        #[arg(value_enum)]
        shell: Shell,
    },
}

const CAN_HELP: &str = "\
SRC is NAMESPACE/NAME or ip:ADDRESS. DST is NAMESPACE/NAME[:PORT] (number or name) or ip:ADDRESS[:PORT].

Without a port every declared port is answered, one line each; the exit code is 0 only when all are allowed.

Of people: SRC is user:NAME, user:NAME@GROUP,GROUP (with the groups that the identity provider says of them), group:NAME, or anonymous for whoever has \
not signed in, and DST is https://HOST/PATH.

With --catalog nothing is asked of the network; virtual IPs are then unknown.";

const RUN_HELP: &str = "\
The program starts in a cgroup of its own below the agent's managed subtree, and only when the agent has read its \
enrolment back from the kernel.

Exit code: the program's; 127 when it is not found, 126 when it cannot be run, 2 before that.";

const EXEC_HELP: &str = "\
The program runs as the workload: the mesh judges it like the workload's own processes. User, PID and IPC namespace \
stay the caller's.

Exit code: the program's; 127 when it is not found, 126 when it cannot be run, 2 before that.";

const USER_HELP: &str = "\
A password is asked for on the terminal, or read as one line from standard input; --generate has one made and prints it \
once. It is never an argument.";

#[derive(Clone, Copy, Debug, Default, ClapArgs)]
pub struct StatusArgs {
    /// Let each workload's canaries run now: that what leaves it is captured, and that what nobody attested is refused
    #[arg(long)]
    pub prove: bool,
}

#[derive(Debug, ClapArgs)]
pub struct GetArgs {
    #[arg(value_enum)]
    pub what: What,
    /// Services, policies and routes only: read them from a catalog directory instead of an agent
    #[arg(long, value_name = "DIR")]
    pub catalog: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    #[value(alias = "service")]
    Services,
    #[value(alias = "workload")]
    Workloads,
    #[value(alias = "policy")]
    Policies,
    #[value(alias = "route")]
    Routes,
    #[value(alias = "node")]
    Nodes,
}

#[derive(Debug, ClapArgs)]
pub struct CanArgs {
    /// Who opens the connection, or the page
    #[arg(value_name = "SRC")]
    pub source: Target,
    /// Whom it opens it to
    #[arg(value_name = "DST")]
    pub destination: Target,
    /// Decide on a catalog directory instead of the snapshot in force
    #[arg(long, value_name = "DIR")]
    pub catalog: Option<PathBuf>,
    /// TCP or UDP [default: what the port is declared as, else TCP]
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Option<Protocol>,
    /// Of an address https://…: the request's method [default: GET]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<Method>,
}

#[derive(Debug, ClapArgs)]
pub struct FlowsArgs {
    /// Go on with new ones as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only from this service, or of this person's requests: user:NAME
    #[arg(long, value_name = "NS/NAME")]
    pub from: Option<FlowSource>,
    /// Only to this service
    #[arg(long, value_name = "NS/NAME")]
    pub to: Option<ServiceRef>,
    /// Only allowed or only denied ones
    #[arg(long, value_name = "allow|deny", value_parser = parse_verdict)]
    pub verdict: Option<Verdict>,
    /// Only those of the last while: 30s, 5m, 2h, 1d
    #[arg(long, value_name = "AGE", value_parser = parse_duration)]
    pub since: Option<Duration>,
    /// At most this many recorded ones, the newest
    #[arg(long, value_name = "N")]
    pub last: Option<u32>,
    /// Also identities, address, revision, rule, process
    #[arg(short, long)]
    pub wide: bool,
}

/// Whose flows: those of a service, or of somebody at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowSource {
    Service(ServiceRef),
    User(String),
}

impl FromStr for FlowSource {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.strip_prefix("user:") {
            Some("") => Err("user: is followed by a name".to_owned()),
            Some(user) => Ok(Self::User(user.to_owned())),
            None => s.parse().map(Self::Service).map_err(|e| format!("{e}; a person is user:NAME")),
        }
    }
}

impl fmt::Display for FlowSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(service) => service.fmt(f),
            Self::User(user) => write!(f, "user:{user}"),
        }
    }
}

#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct WhyArgs {
    /// 16 hex digits, as `weft flows` shows them
    #[arg(value_name = "FLOW-ID")]
    pub flow: Option<FlowId>,
    /// The newest denied flow
    #[arg(long)]
    pub last: bool,
}

#[derive(Debug, ClapArgs)]
pub struct LintArgs {
    /// Directory of the catalog
    pub dir: PathBuf,
    /// Exit 1 on warnings too
    #[arg(long)]
    pub deny_warnings: bool,
}

#[derive(Debug, ClapArgs)]
pub struct CertsArgs {
    /// Print the chains as PEM
    #[arg(long)]
    pub pem: bool,
}

#[derive(Debug, ClapArgs)]
pub struct RunArgs {
    /// The service that the program is an instance of
    #[arg(long, value_name = "NS/NAME")]
    pub service: ServiceRef,
    /// Network namespace to enter [default: the caller's]
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// Cgroup below a managed subtree, absolute or below the agent's cgroup root [default: a fresh one below the agent's first managed subtree]
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<PathBuf>,
    /// Name of the workload on its node [default: given by the agent]
    #[arg(long)]
    pub uid: Option<String>,
    /// Stay as parent and withdraw the workload when the program ends
    #[arg(long)]
    pub rm: bool,
    /// How long to wait for the enrolment
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "30s")]
    pub wait: Duration,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
pub struct ExecArgs {
    /// The service whose workload is entered
    #[arg(value_name = "NS/NAME")]
    pub service: ServiceRef,
    /// Only a workload on this node
    #[arg(long)]
    pub node: Option<NodeName>,
    /// Only the workload of this name
    #[arg(long)]
    pub uid: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// Passed on to `weft-agent check`
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// A join token for one node
    Create(TokenCreateArgs),
}

#[derive(Debug, ClapArgs)]
pub struct TokenCreateArgs {
    /// The node that may use it
    #[arg(long)]
    pub node: NodeName,
    /// Services that the node may run: NS/NAME or NS/*; may be repeated
    #[arg(long, value_name = "NS/NAME", required = true, value_delimiter = ',')]
    pub may_run: Vec<String>,
    /// How long it can be used
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "1h")]
    pub ttl: Duration,
    /// Write it to this file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum NodesCommand {
    /// Forget a node: its tokens and certificates are refused from then on
    Rm { node: NodeName },
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add somebody
    Add(UserAddArgs),
    /// Give somebody another password; whoever is signed in with the former one is signed out
    Passwd {
        name: String,
        /// Have one made, and print it once
        #[arg(long)]
        generate: bool,
    },
    /// Show somebody's groups, or change them
    Groups(UserGroupsArgs),
    /// Sign somebody out, and keep them from signing in
    Disable { name: String },
    /// Let somebody sign in again
    Enable { name: String },
    /// Remove somebody; whoever is signed in under the name is signed out
    Rm { name: String },
    /// Everybody, with groups
    List,
}

#[derive(Debug, ClapArgs)]
pub struct UserAddArgs {
    /// What they type to sign in; upper and lower case are the same
    pub name: String,
    /// Groups that they are in; may be repeated
    #[arg(long, visible_alias = "group", value_name = "GROUP", value_delimiter = ',')]
    pub groups: Vec<String>,
    /// Have a password made, and print it once
    #[arg(long)]
    pub generate: bool,
}

#[derive(Debug, ClapArgs)]
pub struct UserGroupsArgs {
    pub name: String,
    /// The groups that they are in from now on, and no others
    #[arg(value_name = "GROUP", value_delimiter = ',', conflicts_with_all = ["add", "remove", "none"])]
    pub groups: Vec<String>,
    /// Put them into this group too; may be repeated
    #[arg(long, value_name = "GROUP", value_delimiter = ',', conflicts_with = "none")]
    pub add: Vec<String>,
    /// Take them out of this group; may be repeated
    #[arg(long, value_name = "GROUP", value_delimiter = ',', conflicts_with = "none")]
    pub remove: Vec<String>,
    /// Take them out of every group
    #[arg(long)]
    pub none: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn parse_verdict(s: &str) -> Result<Verdict, String> {
    match s {
        "allow" => Ok(Verdict::Allow),
        "deny" => Ok(Verdict::Deny),
        _ => Err("a verdict is allow or deny".to_owned()),
    }
}

/// `90s`, `5m`, `2h`, `1d`; a bare number is refused, because nobody remembers its unit.
pub(crate) fn parse_duration(s: &str) -> Result<Duration, String> {
    let bad = || "a time is a whole number with its unit: 30s, 5m, 2h, 1d".to_owned();
    let digits = s.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = s.split_at(digits);
    let number = u64::from_str(number).map_err(|_| bad())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    number.checked_mul(seconds).filter(|s| *s <= 100 * 365 * 86_400).map(Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests;
