//! Sessions and their store, with a clock that the test moves; and a process that is killed.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

use super::{
    claims::Person,
    opaque::{Opaque, OpaqueHash},
    session::{Lifetimes, Session, SessionId, Tokens},
    sessions::{End, Notice, SessionEvent, Sessions},
    store::{Store, StoreError},
};
use crate::{limits, seal::KeyRing};

const LIVES: Lifetimes = Lifetimes { idle: 1000, absolute: 5000, refresh: 300 };

fn store(dir: &Path) -> Store {
    Store::open(&dir.join("s.db"), KeyRing::open(&dir.join("keys"), 0).unwrap()).unwrap()
}

fn sessions(dir: &Path) -> Sessions {
    Sessions::new(store(dir), LIVES)
}

fn person(subject: &str) -> Person {
    Person { provider: "corp".into(), subject: subject.into(), user: format!("user-{subject}"), email: None, name: None, groups: vec!["sales".into()] }
}

fn tokens(sid: &str) -> Tokens {
    Tokens { issuer: "https://id".into(), refresh: Some(Zeroizing::new("refresh-secret".into())), id: None, sid: Some(sid.into()) }
}

fn begin(sessions: &Sessions, subject: &str, now: u64) -> (SessionId, Opaque) {
    let session = sessions.begin(person(subject), tokens(subject), "Firefox\n", Some(now + 3600), now).unwrap();
    (session.id, sessions.give_ticket(session.id, "a", now).unwrap())
}

fn lives(sessions: &Sessions, ticket: &Opaque, host: &str, now: u64) -> bool {
    // Memory may say less than the database, and never more.
    let quick = sessions.find_in_memory(ticket.hash(), host, now).is_some();
    let found = sessions.find(ticket.hash(), host, now).unwrap().is_some();
    assert!(found || !quick);
    found
}

#[test]
fn rows_rest_sealed_and_the_files_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let (id, ticket) = begin(&sessions, "17", 100);
    assert_eq!(sessions.get(id, 100).unwrap().unwrap().agent, "Firefox");
    drop(sessions);
    let reveal = ticket.reveal();
    for name in ["s.db", "s.db-wal", "keys"] {
        let Ok(bytes) = std::fs::read(dir.path().join(name)) else { continue };
        assert_eq!(std::fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        for secret in ["refresh-secret", "user-17", "sales", "Firefox", reveal.as_str()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name} holds {secret}");
        }
    }
}

#[test]
fn a_row_that_was_changed_is_nobodys_session() {
    for (change, lived) in [
        ("last_seen = 101", true),
        ("ends_at = 99999", false),
        ("user_key = zeroblob(32)", false),
        ("sealed = zeroblob(100)", false),
        // Another's session in one's own row.
        ("sealed = (SELECT sealed FROM session AS other WHERE other.id <> session.id)", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let before = sessions(dir.path());
        let (id, ticket) = begin(&before, "17", 100);
        begin(&before, "18", 100);
        drop(before);
        let db = rusqlite::Connection::open(dir.path().join("s.db")).unwrap();
        assert_eq!(db.execute(&format!("UPDATE session SET {change} WHERE id = ?1"), [id.0]).unwrap(), 1);
        assert_eq!(lives(&sessions(dir.path()), &ticket, "a", 100), lived, "{change}");
    }
}

#[tokio::test]
async fn expiry_slides_and_has_an_end() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let (idle, other) = (begin(&sessions, "1", 0).1, begin(&sessions, "2", 0).1);
    for now in [999, 1998, 2997, 3996, 4995, 4999] {
        assert!(lives(&sessions, &other, "a", now), "{now}");
    }
    let mut notices = sessions.subscribe();
    assert!(!lives(&sessions, &idle, "a", 1000));
    assert!(!lives(&sessions, &other, "a", 5000));
    for _ in 0..2 {
        let notice = notices.next().await;
        assert!(matches!(notice, Some(Notice::One(SessionEvent::Ended(_, End::Expired)))), "{notice:?}");
    }
}

#[test]
fn the_sweep_ends_what_is_over_and_spares_what_memory_knows_to_be_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let (_, used) = begin(&sessions, "1", 0);
    begin(&sessions, "2", 0);
    assert!(lives(&sessions, &used, "a", 30));
    // Answered by memory, not yet on disk.
    assert!(sessions.find_in_memory(used.hash(), "a", 50).is_some());
    assert_eq!(sessions.sweep(1000).unwrap(), 1);
    assert!(lives(&sessions, &used, "a", 1000));
    assert_eq!(sessions.sweep(2000).unwrap(), 1);
}

#[tokio::test]
async fn a_person_has_a_bounded_number_and_the_least_used_goes() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let other = begin(&sessions, "other", 0).1;
    let own: Vec<Opaque> = (0..limits::SESSIONS_PER_USER_MAX).map(|n| begin(&sessions, "1", n as u64).1).collect();
    assert!(lives(&sessions, &own[0], "a", 100));
    let mut notices = sessions.subscribe();
    let last = begin(&sessions, "1", 101).1;
    let notice = notices.next().await;
    assert!(matches!(notice, Some(Notice::One(SessionEvent::Ended(_, End::Crowded)))));
    let live: Vec<bool> = own.iter().map(|ticket| lives(&sessions, ticket, "a", 101)).collect();
    assert_eq!(live.iter().position(|live| !live), Some(1), "the first was used since");
    assert_eq!(live.iter().filter(|live| !**live).count(), 1);
    assert!(lives(&sessions, &last, "a", 101) && lives(&sessions, &other, "a", 101));
}

#[test]
fn when_there_are_too_many_in_all_a_further_one_is_refused_and_nobody_is_put_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.max_sessions = 3;
    let sessions = Sessions::new(store, LIVES);
    let tickets: Vec<Opaque> = (0..3).map(|n| begin(&sessions, &n.to_string(), 0).1).collect();
    assert!(matches!(sessions.begin(person("more"), Tokens::default(), "", None, 0), Err(StoreError::TooMany)));
    assert!(tickets.iter().all(|ticket| lives(&sessions, ticket, "a", 0)));
    sessions.sweep(1000).unwrap();
    assert!(sessions.begin(person("more"), Tokens::default(), "", None, 1000).is_ok());
}

#[test]
fn a_session_that_is_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let large = Person { groups: vec!["x".repeat(limits::SESSION_MAX_BYTES)], ..person("1") };
    assert!(matches!(sessions.begin(large, Tokens::default(), "", None, 0), Err(StoreError::TooLarge)));
}

#[test]
fn tickets_of_a_host_are_bounded_and_another_hosts_are_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let (id, first) = begin(&sessions, "1", 0);
    let elsewhere = sessions.give_ticket(id, "b", 0).unwrap();
    assert!(lives(&sessions, &first, "a", 0), "the browser has shown it");
    let more: Vec<Opaque> = (1..=limits::TICKETS_PER_HOST_MAX as u64).map(|n| sessions.give_ticket(id, "a", n).unwrap()).collect();
    let live: Vec<bool> = [&first].into_iter().chain(&more).map(|ticket| sessions.find(ticket.hash(), "a", 10).unwrap().is_some()).collect();
    assert_eq!(live.iter().position(|live| !live), Some(1), "the oldest that the browser has not shown goes");
    assert_eq!(live.iter().filter(|live| !**live).count(), 1);
    assert!(lives(&sessions, &elsewhere, "b", 10) && !lives(&sessions, &elsewhere, "a", 10));
    for n in 0..limits::HOSTS_PER_SESSION_MAX - 2 {
        sessions.give_ticket(id, &format!("h{n}"), 10).unwrap();
    }
    assert!(matches!(sessions.give_ticket(id, "one more", 10), Err(StoreError::TooManyHosts)));
    assert!(sessions.give_ticket(id, "a", 10).is_ok());
}

#[test]
fn an_end_takes_every_ticket_with_it_and_a_late_refresh_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let (id, here) = begin(&sessions, "1", 0);
    let there = sessions.give_ticket(id, "b", 0).unwrap();
    assert!(lives(&sessions, &here, "a", 1) && lives(&sessions, &there, "b", 1));
    let session = sessions.get(id, 1).unwrap().unwrap();
    assert!(sessions.end(id, End::Revoked).unwrap());
    assert!(!lives(&sessions, &here, "a", 1) && !lives(&sessions, &there, "b", 1));
    assert!(!sessions.refreshed(Session::clone(&session)).unwrap());
    assert!(sessions.get(id, 1).unwrap().is_none());
    assert!(!sessions.end(id, End::Revoked).unwrap());
    drop(sessions);
    assert!(!lives(&self::sessions(dir.path()), &here, "a", 1));
}

#[tokio::test]
async fn whoever_lags_behind_is_told_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    let (id, _) = begin(&sessions, "1", 0);
    let mut notices = sessions.subscribe();
    sessions.end(id, End::SignedOut).unwrap();
    for _ in 0..limits::EVENTS_KEPT {
        let (more, _) = begin(&sessions, "2", 0);
        sessions.end(more, End::SignedOut).unwrap();
    }
    assert_eq!(notices.next().await, Some(Notice::Missed));
    assert!(sessions.get(id, 0).unwrap().is_none());
    assert!(matches!(notices.next().await, Some(Notice::One(_))));
}

#[test]
fn rotated_keys_open_what_they_sealed_and_seal_anew() {
    let dir = tempfile::tempdir().unwrap();
    const MONTH: u64 = limits::SEALING_KEY_LIFE_SECONDS;
    let first = sessions(dir.path());
    let (_, ticket) = begin(&first, "1", MONTH - 10);
    first.sweep(MONTH).unwrap();
    drop(first);
    let second = sessions(dir.path());
    assert!(lives(&second, &ticket, "a", MONTH));
    let file = std::fs::read_to_string(dir.path().join("keys")).unwrap();
    assert!(file.contains("\"id\":2"));
}

#[test]
fn refreshes_come_before_the_access_token_ends() {
    let dir = tempfile::tempdir().unwrap();
    let sessions = sessions(dir.path());
    for (token_ends_at, expect) in
        [(None, 1300), (Some(1000 + 3600), 1300), (Some(1000 + 300), 1240), (Some(1000 + 60), 1030), (Some(1000 + 1), 1001), (Some(900), 900)]
    {
        assert_eq!(sessions.refresh_at(token_ends_at, 1000), expect, "{token_ends_at:?}");
    }
}

const KILLED: &str = "WEFT_TEST_KILLED_IN";

/// The process that is killed: says each ticket after it is durable, for ever.
#[test]
#[ignore = "is run by `what_was_acknowledged_survives_kill_9`"]
fn begins_sessions_until_it_is_killed() {
    let Some(dir) = std::env::var_os(KILLED) else { return };
    let sessions = sessions(Path::new(&dir));
    for n in 0.. {
        let (id, ticket) = begin(&sessions, &n.to_string(), 0);
        println!("\nticket {} {id}", ticket.hash().text());
        if n % 3 == 0 {
            sessions.end(id, End::Revoked).unwrap();
            println!("\nended {id}");
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sso::tests::begins_sessions_until_it_is_killed", "--ignored", "--nocapture"])
        .env(KILLED, dir.path())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut said =
        BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap).filter(|line| line.starts_with("ticket ") || line.starts_with("ended "));
    let mut lines: Vec<String> = said.by_ref().take(60).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What was written before the end came is in the pipe.
    lines.extend(said);
    let (mut kept, mut ended) = (Vec::new(), Vec::new());
    for line in &lines {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["ticket", hash, id] if hash.len() == 43 && id.len() == 32 => kept.push((OpaqueHash::parse(hash).unwrap(), id.parse::<SessionId>().unwrap())),
            ["ended", id] if id.len() == 32 => ended.push(id.parse::<SessionId>().unwrap()),
            _ => {}
        }
    }
    assert!(kept.len() >= 40 && ended.len() >= 10, "{} {}", kept.len(), ended.len());
    let sessions = sessions(dir.path());
    // The end of the very last one may have been durable before it was said.
    let last = kept.last().map(|(_, id)| *id);
    for (hash, id) in &kept {
        let lives = sessions.find(*hash, "a", 0).unwrap().is_some();
        assert!(lives != ended.contains(id) || Some(*id) == last, "{id}");
    }
    assert!(sessions.begin(person("after"), Tokens::default(), "", None, 0).is_ok());
}
