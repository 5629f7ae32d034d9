//! Bounds of the local OpenID provider, each with its unit, and what happens at the bound.

use std::time::Duration;

/// Clients that the configuration may register, and addresses of one client. More are refused at the start.
pub const CLIENTS_MAX: usize = 32;
pub const CLIENT_URIS_MAX: usize = 16;
/// Characters of a client's id; of its secret, at least and at most.
pub const CLIENT_ID_MAX_CHARS: usize = 64;
pub const CLIENT_SECRET_MIN_CHARS: usize = 32;
pub const CLIENT_SECRET_MAX_CHARS: usize = 256;
/// Networks of proxies whose word about a peer's address is taken.
pub const PROXIES_MAX: usize = 64;

/// Bytes of a form and of a query. A longer one is refused before it is parsed.
pub const FORM_MAX_BYTES: usize = 16 << 10;
pub const QUERY_MAX_BYTES: usize = 8 << 10;
/// Parameters of a request. With more it is refused.
pub const PARAMS_MAX: usize = 32;
/// Bytes of what is only carried along for a client (`state`, `nonce`), and of a hint. With a longer one the request is refused.
pub const CARRIED_MAX_BYTES: usize = 1024;
/// Cookies of one name that are looked at; further ones are not.
pub const COOKIES_TRIED_MAX: usize = 8;
/// Bytes of a JSON Web Token that is read. A longer one is not ours.
pub const JWT_MAX_BYTES: usize = 8 << 10;

/// Bytes of a user's name and of a group's.
pub const USER_NAME_MAX_BYTES: usize = 64;
pub const GROUP_NAME_MAX_BYTES: usize = 64;
/// Users, and groups of one user. A further one is refused.
pub const USERS_MAX: usize = 10_000;
pub const GROUPS_MAX: usize = 64;
/// Characters of a password at least, bytes at most.
pub const PASSWORD_MIN_CHARS: usize = 8;
pub const PASSWORD_MAX_BYTES: usize = 256;
/// What a password costs (argon2id): memory, passes, lanes. About 30 ms.
pub const PASSWORD_MEMORY_KIB: u32 = 19 << 10;
pub const PASSWORD_PASSES: u32 = 2;
pub const PASSWORD_LANES: u32 = 1;
/// Passwords looked at at once, each with the memory above, and how long a further one waits before it is told to come back.
pub const PASSWORDS_AT_ONCE: usize = 2;
pub const PASSWORD_WAIT: Duration = Duration::from_secs(5);

/// Failed logins: so many at once, then one each interval. By the name that was typed, and by the peer's address (IPv6: its /64).
pub const USER_BURST: i64 = 10;
pub const USER_INTERVAL: Duration = Duration::from_secs(30);
pub const PEER_BURST: i64 = 50;
pub const PEER_INTERVAL: Duration = Duration::from_secs(6);
/// Names and peers that are remembered. At the bound a login is refused.
pub const LIMITED_MAX: usize = 65_536;

/// Life of an authorization code (RFC 6749 section 4.1.2 allows ten minutes).
pub const CODE_TTL: Duration = Duration::from_secs(60);
/// Codes that were not used yet, of all and of one session. A further login is told to come back.
pub const CODES_MAX: usize = 10_000;
pub const CODES_PER_SESSION_MAX: usize = 32;
/// Life of ID and access tokens when the configuration is silent, the shortest and the longest.
pub const TOKEN_TTL: Duration = Duration::from_secs(300);
pub const TOKEN_TTL_MIN: Duration = Duration::from_secs(10);
pub const TOKEN_TTL_MAX: Duration = Duration::from_secs(3600);
/// How long the refresh token before the last still gets the answer that the last one got.
pub const REFRESH_GRACE: Duration = Duration::from_secs(30);
/// What one session gave to clients. At the bound its oldest is ended.
pub const GRANTS_PER_SESSION_MAX: usize = 64;

/// Sessions of all. A further login is told to come back. Of one user: the oldest is ended.
pub const SESSIONS_MAX: usize = 20_000;
pub const SESSIONS_PER_USER_MAX: usize = 32;
/// How long a session lives unused, and at most, when the configuration is silent; the shortest and the longest.
pub const SESSION_IDLE: Duration = Duration::from_secs(12 * 3600);
pub const SESSION_LIFE: Duration = Duration::from_secs(7 * 86_400);
pub const SESSION_MIN: Duration = Duration::from_secs(60);
pub const SESSION_MAX: Duration = Duration::from_secs(90 * 86_400);
/// Use of a session is noted at most once in this time.
pub const SESSION_TOUCH: Duration = Duration::from_secs(60);

/// Life of a key as the one that signs; a new one is published this long before it signs, and stays published this long after.
pub const KEY_LIFE: Duration = Duration::from_secs(90 * 86_400);
pub const KEY_OVERLAP: Duration = Duration::from_secs(86_400);
/// How long others may keep the keys and the description of the provider.
pub const PUBLIC_MAX_AGE: Duration = Duration::from_secs(300);

/// Life of a logout token (OpenID Connect Back-Channel Logout 1.0 section 2.4 recommends two minutes at most).
pub const LOGOUT_TTL: Duration = Duration::from_secs(120);
/// Logout tokens that wait for being sent. A further one is dropped, and said in the log: what it would end can no longer be refreshed either.
pub const LOGOUTS_MAX: usize = 4096;
/// Tries to deliver a logout token, the time each may take, and the pause after the first, doubled each time.
pub const LOGOUT_TRIES: u32 = 4;
pub const LOGOUT_TIMEOUT: Duration = Duration::from_secs(5);
pub const LOGOUT_PAUSE: Duration = Duration::from_secs(1);
/// Logout tokens under way at once.
pub const LOGOUTS_AT_ONCE: usize = 16;

/// Connections of the front that wait for a logout token. At the bound the oldest is closed.
pub const FRONTS_WAITING_MAX: usize = 16;

/// Connections at once; further ones wait in the kernel's backlog.
pub const CONNECTIONS_MAX: usize = 1024;
/// Headers of a request, bytes of its head, and the time that head and body may take to arrive.
pub const HEADERS_MAX: usize = 64;
pub const HEAD_MAX_BYTES: usize = 32 << 10;
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may live, however many requests it carries.
pub const CONNECTION_TTL: Duration = Duration::from_secs(600);
