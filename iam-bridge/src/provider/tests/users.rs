//! Administration: names, groups, and what each change ends; and that nothing secret is left in any file.

use super::*;
use crate::{
    limits::provider as limits,
    provider::{User, UserError, group_change, users::GroupChange},
};

fn add(world: &mut World, name: &str, groups: &[&str], password: Option<&str>) -> Result<(User, Option<String>), UserError> {
    let now = world.now;
    let groups = groups.iter().map(|g| (*g).to_owned()).collect();
    let new = NewUser { name: name.into(), groups, password: password.map(|p| Zeroizing::new(p.to_owned())) };
    world.provider().add_user(new, now).map(|(user, made)| (user, made.map(|p| p.reveal().to_owned())))
}

fn groups(world: &mut World, name: &str, change: GroupChange) -> Result<Vec<String>, UserError> {
    let now = world.now;
    world.provider().set_groups(name, change, now).map(|u| u.groups)
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn a_user_is_added_once_under_a_name_that_can_be() {
    let mut world = World::new();
    let (user, made) = add(&mut world, "Alice", &["support", "sales", "sales"], Some(PASSWORD)).unwrap();
    assert_eq!((user.name.as_str(), user.groups, made), ("alice", strings(&["sales", "support"]), None));
    assert!(matches!(add(&mut world, "ALICE", &[], Some(PASSWORD)), Err(UserError::Exists(name)) if name == "alice"));
    assert!(matches!(add(&mut world, "al ice", &[], Some(PASSWORD)), Err(UserError::Name(_))));
    assert!(matches!(add(&mut world, "bob", &["a b"], Some(PASSWORD)), Err(UserError::Name(_))));
    assert!(matches!(add(&mut world, "bob", &[], Some("short")), Err(UserError::Password(_))));
    let (_, made) = add(&mut world, "bob", &[], None).unwrap();
    let form = world.form(&authorize(&[]), "bob", &made.unwrap());
    assert_eq!(world.post_form(&form).status(), 303, "the password that was made");
    let now = world.now;
    let list: Vec<_> = world.provider().list_users(now).unwrap().into_iter().map(|u| (u.name, u.sessions)).collect();
    assert_eq!(list, [("alice".to_owned(), 0), ("bob".to_owned(), 1)]);
}

#[test]
fn a_name_that_comes_again_is_another_person() {
    let mut world = World::with_alice();
    let now = world.now;
    let before = world.provider().list_users(now).unwrap()[0].subject.clone();
    world.provider().remove_user("alice", now).unwrap();
    world.add("alice", &[]);
    assert_ne!(world.provider().list_users(now).unwrap()[0].subject, before);
}

#[test]
fn groups_are_replaced_or_changed_and_bounded() {
    let mut world = World::with_alice();
    let change = |add: &[&str], remove: &[&str]| group_change(None, &strings(add), &strings(remove)).unwrap();
    let replace = |groups: &[&str]| group_change(Some(strings(groups)), &[], &[]).unwrap();
    assert_eq!(groups(&mut world, "alice", change(&["b", "a"], &["sales"])).unwrap(), ["a", "b"]);
    assert_eq!(groups(&mut world, "Alice", replace(&["c"])).unwrap(), ["c"]);
    assert!(matches!(groups(&mut world, "alice", change(&[], &["sales"])), Err(UserError::NotIn { .. })));
    assert!(matches!(groups(&mut world, "nobody", replace(&[])), Err(UserError::Absent(_))));
    let many: Vec<String> = (0..limits::GROUPS_MAX).map(|n| format!("g{n}")).collect();
    assert!(groups(&mut world, "alice", group_change(Some(many), &[], &[]).unwrap()).is_ok());
    assert!(matches!(groups(&mut world, "alice", change(&["one-more"], &[])), Err(UserError::TooManyGroups { found: 65, .. })));
    assert_eq!(groups(&mut world, "alice", replace(&[])).unwrap(), Vec::<String>::new());
}

#[test]
fn a_group_that_is_taken_away_is_told_and_the_login_stays() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    groups(&mut world, "alice", group_change(None, &strings(&["support"]), &[]).unwrap()).unwrap();
    assert!(world.provider().take_logouts().is_empty(), "one more group ends nothing");
    groups(&mut world, "alice", group_change(None, &[], &strings(&["sales"])).unwrap()).unwrap();
    let told = world.provider().take_logouts();
    assert_eq!((told.len(), told[0].client.as_str()), (1, "portal"));
    assert!(world.is_signed_in());
    assert_eq!(world.refresh(&tokens["refresh_token"]).status(), 200);
}

#[test]
fn what_ends_a_users_logins_ends_those_and_no_others() {
    let mut world = World::with_alice();
    world.add("bob", &[]);
    let form = world.form(&authorize(&[]), "bob", PASSWORD);
    let answer = world.post_form(&form);
    let bobs = world.redeem(&location(&answer).1["code"].clone());
    let browser = world.cookies.clone();
    for what in ["removed", "disabled", "password"] {
        world.cookies.clear();
        let tokens = world.tokens();
        let code = location(&world.get(&authorize(&[]))).1["code"].clone();
        let now = world.now;
        match what {
            "removed" => world.provider().remove_user("alice", now).unwrap(),
            "disabled" => world.provider().set_disabled("alice", true, now).unwrap(),
            _ => drop(world.provider().set_password("alice", Some(Zeroizing::new("another password".into())), now).unwrap()),
        }
        assert!(!world.is_signed_in(), "{what}");
        assert_eq!(world.refresh(&tokens["refresh_token"]).status(), 400, "{what}");
        assert_eq!(world.userinfo(&tokens["access_token"]).status(), 401, "{what}");
        assert_eq!(world.token(&redemption(&code, &[])).status(), 400, "{what}: a code under way");
        assert_eq!(world.login("alice").status(), 403, "{what}");
        let told = world.provider().take_logouts();
        assert_eq!((told.len(), &claims(&Value::from(told[0].token.clone()))["sid"]), (1, &claims(&tokens["id_token"])["sid"]), "{what}");
        let _ = world.provider().remove_user("alice", now);
        world.add("alice", &[]);
    }
    world.cookies = browser;
    assert!(world.is_signed_in());
    assert_eq!(world.refresh(&bobs["refresh_token"]).status(), 200);
}

#[test]
fn who_is_enabled_again_can_log_in() {
    let mut world = World::with_alice();
    let now = world.now;
    world.provider().set_disabled("alice", true, now).unwrap();
    assert_eq!(world.login("alice").status(), 403);
    world.provider().set_disabled("alice", false, now).unwrap();
    assert_eq!(world.login("alice").status(), 303);
}

#[test]
fn at_the_bound_of_users_none_is_added() {
    let mut world = World::with_alice();
    let row = world.provider().people.user("alice").unwrap().unwrap();
    let change = world.provider().people.change().unwrap();
    for n in 1..limits::USERS_MAX {
        let (name, subject) = (format!("u{n}"), format!("s{n}"));
        change.add_user(&crate::store::UserRow { name, subject, ..row.clone() }).unwrap();
    }
    change.commit().unwrap();
    assert!(matches!(add(&mut world, "bob", &[], Some(PASSWORD)), Err(UserError::TooManyUsers)));
    let now = world.now;
    world.provider().remove_user("u1", now).unwrap();
    assert!(add(&mut world, "bob", &[], Some(PASSWORD)).is_ok());
}

#[test]
fn no_file_holds_a_password_a_cookie_or_a_token() {
    let mut world = World::with_alice();
    let tokens = world.tokens();
    let code = world.code();
    let mut secrets = vec![PASSWORD.to_owned(), code, world.cookies["__Host-id"].clone(), SECRET.to_owned()];
    secrets.extend(["refresh_token", "access_token", "id_token"].map(|t| tokens[t].as_str().unwrap().to_owned()));
    let dir = world.dir.path().join("state");
    world.provider = None;
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let (bytes, mode) = (std::fs::read(&path).unwrap(), std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap()));
        assert_eq!(mode & 0o077, 0, "{}", path.display());
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{} holds {secret}", path.display());
        }
        // The control: the search finds what is there.
        seen += usize::from(bytes.windows(5).any(|w| w == b"alice"));
    }
    assert!(seen > 0);
}
