//! Bounds of the gateway, each with its unit, and what happens at the bound.

use std::time::Duration;

/// Clocks of two machines may differ by this much, both ways.
pub const LEEWAY_SECONDS: u64 = 60;

/// A session ends after this long without a request, when the configuration is silent.
pub const SESSION_IDLE_SECONDS: u64 = 2 * 3600;
/// A session ends this long after sign-in, whatever happens, when the configuration is silent.
pub const SESSION_LIFE_SECONDS: u64 = 12 * 3600;
/// The longest life that can be configured: for so long a sealing key is kept after its successor came.
pub const SESSION_LIFE_MAX_SECONDS: u64 = 30 * 24 * 3600;
/// How often a session's last use is brought to disk: a crash may take so much of the sliding expiry with it.
pub const TOUCH_SPACING_SECONDS: u64 = 60;
/// Sessions of one person. At the bound the one that was used least recently ends: it is the person's own.
pub const SESSIONS_PER_USER_MAX: usize = 20;
/// Sessions of all. At the bound a further sign-in is refused; nobody is put out for it.
pub const SESSIONS_MAX: usize = 100_000;
/// Sessions kept in memory beside the database. At the bound those not in use are dropped and read again, which costs time only.
pub const SESSIONS_CACHED_MAX: usize = 20_000;
/// Tickets of one session at one host. At the bound the oldest goes.
pub const TICKETS_PER_HOST_MAX: usize = 8;
/// Hosts that one session has tickets for. At the bound a further host refuses the sign-in.
pub const HOSTS_PER_SESSION_MAX: usize = 256;
/// A ticket lives so long after its successor was seen for the first time.
pub const TICKET_OVERLAP_SECONDS: u64 = 30;
/// A page gets a new ticket when the session was refreshed since, but not more often than this.
pub const TICKET_ROTATION_SPACING_SECONDS: u64 = 30;
/// Bytes of a session's content. A larger one is refused at sign-in.
pub const SESSION_MAX_BYTES: usize = 64 << 10;
/// Session events that a subscriber may lag behind; one that lags further is told so and asks about each session that it holds.
pub const EVENTS_KEPT: usize = 1024;

/// Cookies named as the ticket that are tried. Further ones are not looked at.
pub const TICKETS_TRIED_MAX: usize = 8;
/// Bytes of a cookie with its attributes. A longer one is never sent.
pub const COOKIE_MAX_BYTES: usize = 4096;
/// Sign-ins under way in one browser at one host. At the bound the others' cookies are cleared.
pub const TRANSACTIONS_PER_BROWSER_MAX: usize = 8;
/// Sign-ins under way. At the bound the oldest is forgotten, so that whoever floods the table needs to be faster than people sign in.
pub const TRANSACTIONS_MAX: usize = 20_000;
/// How long a person may take at the provider.
pub const TRANSACTION_SECONDS: u64 = 10 * 60;
/// Codes that bring a session to an app host and were not used yet. At the bound the oldest is forgotten.
pub const CODES_MAX: usize = 20_000;
/// Life of such a code.
pub const CODE_SECONDS: u64 = 30;
/// Bytes of the address that a sign-in leads back to. A longer one leads to the host's start page.
pub const ORIGINAL_URL_MAX_BYTES: usize = 2048;
/// Sign-ins that one browser begins at one host within [`LOOP_SECONDS`]. The next one gets a page that says what to do.
pub const LOOP_MAX: u32 = 8;
/// The span in which a loop is counted.
pub const LOOP_SECONDS: u64 = 60;

/// How long a provider may take for one answer.
pub const PROVIDER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a provider's answer. A longer one is an error.
pub const PROVIDER_ANSWER_MAX_BYTES: usize = 1 << 20;
/// Keys of a provider that are looked at; further ones are not.
pub const PROVIDER_KEYS_MAX: usize = 64;
/// Discovery and keys of a provider are asked for again after this; the last good ones stay in force until there are newer ones.
pub const DISCOVERY_FRESH_SECONDS: u64 = 3600;
/// A provider is asked for discovery or keys no more often than this, whatever unknown keys or failures there are.
pub const DISCOVERY_SPACING_SECONDS: u64 = 30;
/// The same for keys that a token names which the provider itself has just handed over: nobody else can bring that about.
pub const DIRECT_SPACING_SECONDS: u64 = 5;
/// Bytes of a token that a provider or a client sends. A longer one is refused before it is parsed.
pub const TOKEN_MAX_BYTES: usize = 32 << 10;
/// Groups of one person. A person with more cannot sign in: a shortened list would deny in silence.
pub const GROUPS_MAX: usize = 1000;
/// Bytes of one group, user name, address or display name. A longer one refuses the sign-in.
pub const CLAIM_MAX_BYTES: usize = 512;
/// A session's person is taken anew from the provider this often, and before the access token expires.
pub const REFRESH_SECONDS: u64 = 5 * 60;
/// A refresh that could not ask the provider is tried again after this.
pub const REFRESH_RETRY_SECONDS: u64 = 30;
/// A request waits so long for a refresh, usually; then it goes on with what is known.
pub const REFRESH_WAIT: Duration = Duration::from_secs(3);
/// Refreshes under way. At the bound a request goes on with what is known.
pub const REFRESHES_MAX: usize = 256;

/// Bytes of the body of a form that the gateway itself reads.
pub const FORM_MAX_BYTES: usize = 64 << 10;
/// Ids of logout tokens that are remembered until the token would be too old. At the bound a logout is refused with 503, and the provider tries again.
pub const LOGOUT_IDS_MAX: usize = 10_000;
/// A logout token without an expiry is accepted for this long after it was issued.
pub const LOGOUT_TOKEN_SECONDS: u64 = 10 * 60;

/// Life of an assertion.
pub const ASSERTION_SECONDS: u64 = 60;
/// Bytes of an assertion. At the bound groups are left out from the end, and the assertion says how many.
pub const ASSERTION_MAX_BYTES: usize = 6 << 10;
/// A new key of assertions is published for this long before it signs.
pub const ASSERTION_KEY_AHEAD_SECONDS: u64 = 10 * 60;
/// A key of assertions signs for this long.
pub const ASSERTION_KEY_LIFE_SECONDS: u64 = 30 * 24 * 3600;
/// A sealing key seals for this long.
pub const SEALING_KEY_LIFE_SECONDS: u64 = 30 * 24 * 3600;
/// Bytes of a file of keys.
pub const KEY_FILE_MAX_BYTES: u64 = 64 << 10;

/// For open requests and connections after SIGTERM, when the configuration is silent.
pub const DRAIN_SECONDS: u64 = 30;
/// The longest drain that can be configured.
pub const DRAIN_MAX_SECONDS: u64 = 3600;
/// The kernel's bound for a unix socket's path is 108 bytes with its end.
pub const SOCKET_PATH_MAX_BYTES: usize = 107;
/// Bytes of a certificate's or key's file. A larger one is refused.
pub const CERTIFICATE_FILE_MAX_BYTES: u64 = 1 << 20;
/// Between two looks at the certificates' files.
pub const CERTIFICATE_LOOK: Duration = Duration::from_secs(2);
/// Public connections, those in their handshake and WebSockets included; fewer where the limit of open files leaves less. At the bound further ones
/// wait in the backlog.
pub const CONNECTIONS_MAX: usize = 20_000;
/// Open files beside public connections and those to applications.
pub const DESCRIPTORS_RESERVED: usize = 256;
/// For a TLS handshake. Beyond it the connection is closed.
pub const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// Silence after which a public connection is asked whether it is there, and how often then; the kernel says how many times (9).
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// After a connection could not be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A port that the policy names and that could not be had is tried again after this.
pub const PORT_RETRY: Duration = Duration::from_secs(1);
/// For what is still to be told when the gateway ends: the last flows to the agent, the last lines to the access log.
pub const FAREWELL_WAIT: Duration = Duration::from_secs(2);
/// Connections that wait to be accepted.
pub const BACKLOG: u32 = 4096;
/// Connections to the port that only redirects, and as many to the back channel. At the bound further ones wait in the backlog.
pub const PLAIN_CONNECTIONS_MAX: usize = 256;
/// First and longest pause before the node's agent is asked again.
pub const AGENT_PAUSE_MIN: Duration = Duration::from_millis(100);
pub const AGENT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Decisions that wait to be told to the agent. Beyond it they are dropped and counted.
pub const FLOWS_QUEUED_MAX: usize = 4096;
/// Decisions in one message to the agent.
pub const FLOWS_PER_REPORT: usize = 64;
/// Bytes of all groups in one of them: no more is kept there.
pub const FLOW_GROUPS_MAX_BYTES: usize = 2048;
/// Requests that were let in, of which the agent is told, a second; those refused have as many of their own. Beyond it they are in the access log only.
pub const FLOWS_PER_SECOND: u32 = 200;
/// A workload that did not accept a connection is asked last for so long.
pub const BACKEND_PENALTY: Duration = Duration::from_secs(5);
/// A response of at least this size, or of none that is known, ends when what let it in is gone.
pub const LIVE_MIN_BYTES: u64 = 64 << 10;
/// Persons of whom something is open are taken anew from their provider this often, as far as that is due: whoever only listens sends no request.
pub const LIVE_RENEWAL: Duration = Duration::from_secs(5);
/// Of them at the same time. The others wait for their turn.
pub const LIVE_RENEWALS_MAX: usize = 64;
/// How long it is remembered that a session has ended or changed, for requests that were judged before and are registered after.
pub const ENDS_REMEMBERED: Duration = Duration::from_secs(60);
/// Lines of the access log that are written at once.
pub const LOG_LINES_PER_WRITE: usize = 256;
/// Lines of the access log are gathered for this long, unless there are many.
pub const LOG_PAUSE: Duration = Duration::from_millis(10);
/// Lines of the access log that wait to be written. Beyond it they are dropped and counted: a full disk stops no request.
pub const LOG_QUEUED_MAX: usize = 16_384;
/// Bytes of the path, and of the client's name for itself, in a line of the access log.
pub const LOGGED_MAX_BYTES: usize = 1024;
/// Between two looks after sessions and keys that are over.
pub const SWEEP: Duration = Duration::from_secs(60);
/// An identity provider whose secret cannot be read is tried again after this.
pub const PROVIDER_RETRY: Duration = Duration::from_secs(5);
/// An application that is asked whether it answers has so long.
pub const REACH_WAIT: Duration = Duration::from_secs(3);
/// How long what was seen of it is believed.
pub const REACH_KEPT: Duration = Duration::from_secs(10);
/// What to do about a file of keys that cannot be read.
pub(crate) const KEYS_WAY_OUT: &str = "restore it from a backup, or remove it, which signs everybody out";
