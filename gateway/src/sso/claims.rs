//! From a provider's claims to a person: which claim holds what, nested ones included.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::limits;

/// Who somebody is, as the provider said last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The provider's own, lasting id of the person.
    pub subject: String,
    /// What policies and people call them.
    pub user: String,
    pub email: Option<String>,
    pub name: Option<String>,
    /// Sorted, each once.
    pub groups: Vec<String>,
}

/// Where a claim is found: names of members, from the outermost in, such as `realm_access` and `roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Vec<String>);

/// Which claim holds what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimMap {
    pub user: ClaimPath,
    pub email: ClaimPath,
    pub name: ClaimPath,
    /// Together; a claim that is absent says nothing.
    pub groups: Vec<ClaimPath>,
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClaimError {
    #[error("claim {0} is missing")]
    Missing(String),
    #[error("claim {claim} is no {expected}")]
    Type { claim: String, expected: &'static str },
    #[error("claim {claim} is longer than {} bytes, or has control characters", limits::CLAIM_MAX_BYTES)]
    Text { claim: String },
    #[error("claim {claim} has {count} groups, at most {} are taken: let the provider send only those that weft needs", limits::GROUPS_MAX)]
    Groups { claim: String, count: usize },
    #[error("the provider did not send the groups but a link to them (claim {0} in _claim_names): limit the groups that it puts into tokens")]
    Distributed(String),
}

impl Default for ClaimMap {
    /// The claims of OpenID Connect Core section 5.1, and `groups`.
    fn default() -> Self {
        let path = |name: &str| ClaimPath::new([name]);
        Self { user: path("preferred_username"), email: path("email"), name: path("name"), groups: vec![path("groups")] }
    }
}

impl ClaimPath {
    pub fn new<S: Into<String>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self(steps.into_iter().map(Into::into).collect())
    }

    fn remove(&self, claims: &mut Map<String, Value>) {
        let Some((last, outer)) = self.0.split_last() else { return };
        let parent = outer.iter().try_fold(claims, |value, step| value.get_mut(step)?.as_object_mut());
        parent.and_then(|parent| parent.remove(last));
    }

    fn find<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        let (first, inner) = self.0.split_first()?;
        inner.iter().try_fold(claims.get(first)?, |value, step| value.as_object()?.get(step))
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl ClaimMap {
    /// Whether a claim that is mapped is not among these, so that it is worth asking for more.
    pub(crate) fn lacks(&self, claims: &Map<String, Value>) -> bool {
        let nowhere = |path: &ClaimPath| path.find(claims).is_none();
        [&self.user, &self.email, &self.name].into_iter().any(nowhere) || self.groups.iter().any(nowhere)
    }

    /// As if these had never said a group.
    pub(crate) fn forget_groups(&self, claims: &mut Map<String, Value>) {
        for path in &self.groups {
            path.remove(claims);
        }
    }

    /// A person without a user name is called by their subject; without groups they are in none.
    pub(crate) fn person(&self, provider: &str, claims: &Map<String, Value>) -> Result<Person, ClaimError> {
        let subject = ClaimPath::new(["sub"]);
        let subject = text(&subject, claims)?.ok_or_else(|| ClaimError::Missing("sub".to_owned()))?;
        // An address that the provider has not verified is anybody's.
        let verified =
            !matches!(claims.get("email_verified"), Some(Value::Bool(false))) && claims.get("email_verified").and_then(Value::as_str) != Some("false");
        Ok(Person {
            provider: provider.to_owned(),
            user: text(&self.user, claims)?.unwrap_or_else(|| subject.clone()),
            subject,
            email: text(&self.email, claims)?.filter(|_| verified),
            name: text(&self.name, claims)?,
            groups: groups(&self.groups, claims)?,
        })
    }
}

fn text(path: &ClaimPath, claims: &Map<String, Value>) -> Result<Option<String>, ClaimError> {
    match path.find(claims) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => checked(path, text).map(Some),
        Some(_) => Err(ClaimError::Type { claim: path.to_string(), expected: "text" }),
    }
}

fn groups(paths: &[ClaimPath], claims: &Map<String, Value>) -> Result<Vec<String>, ClaimError> {
    let mut groups = Vec::new();
    for path in paths {
        let wrong = || ClaimError::Type { claim: path.to_string(), expected: "list of texts" };
        match path.find(claims) {
            None | Some(Value::Null) => {
                // OpenID Connect Core section 5.6.2.
                let elsewhere = path.0.first().is_some_and(|first| claims.get("_claim_names").is_some_and(|names| names.get(first).is_some()));
                if elsewhere {
                    return Err(ClaimError::Distributed(path.to_string()));
                }
            }
            Some(Value::String(one)) => groups.push(checked(path, one)?),
            Some(Value::Array(list)) if list.len() > limits::GROUPS_MAX => return Err(ClaimError::Groups { claim: path.to_string(), count: list.len() }),
            Some(Value::Array(list)) => {
                for group in list {
                    groups.push(checked(path, group.as_str().ok_or_else(wrong)?)?);
                }
            }
            Some(_) => return Err(wrong()),
        }
    }
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

fn checked(path: &ClaimPath, text: &str) -> Result<String, ClaimError> {
    let fits = text.len() <= limits::CLAIM_MAX_BYTES && !text.chars().any(char::is_control);
    if fits { Ok(text.to_owned()) } else { Err(ClaimError::Text { claim: path.to_string() }) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(paths: &str, claims: Value, expect: Result<&[&str], &str>) {
        let mut claims = claims.as_object().unwrap().clone();
        claims.insert("sub".to_owned(), json!("1"));
        let groups = paths.split(' ').map(|path| ClaimPath::new(path.split('.'))).collect();
        let found = ClaimMap { groups, ..ClaimMap::default() }.person("p", &claims).map(|person| person.groups).map_err(|e| e.to_string());
        match expect {
            Ok(groups) => assert_eq!(found.unwrap(), groups, "{paths} {claims:?}"),
            Err(part) => assert!(found.as_ref().is_err_and(|e| e.contains(part)), "{paths} {found:?}"),
        }
    }

    #[test]
    fn groups_are_found_where_providers_put_them() {
        check("groups", json!({"groups": ["b", "a", "b"]}), Ok(&["a", "b"]));
        check("groups", json!({"groups": "one"}), Ok(&["one"]));
        check("groups", json!({}), Ok(&[]));
        check("groups", json!({"groups": null}), Ok(&[]));
        check("realm_access.roles", json!({"realm_access": {"roles": ["x"]}}), Ok(&["x"]));
        check("resource_access.weft.roles", json!({"resource_access": {"weft": {"roles": ["x"]}, "other": {"roles": ["y"]}}}), Ok(&["x"]));
        check("groups realm_access.roles", json!({"groups": ["b"], "realm_access": {"roles": ["a", "b"]}}), Ok(&["a", "b"]));
        check("groups realm_access.roles", json!({"realm_access": {"roles": ["a"]}}), Ok(&["a"]));
        check("realm_access.roles", json!({"realm_access": ["x"]}), Ok(&[]));
        check("groups", json!({"groups": [1]}), Err("no list of texts"));
        check("groups", json!({"groups": {"a": 1}}), Err("no list of texts"));
        check("groups", json!({"groups": ["a\n"]}), Err("control characters"));
        check("groups", json!({"groups": ["x".repeat(513)]}), Err("longer than 512 bytes"));
        check("groups", json!({"groups": (0..1001).map(|n| n.to_string()).collect::<Vec<_>>()}), Err("1001 groups"));
        check("groups", json!({"_claim_names": {"groups": "src1"}}), Err("a link to them"));
    }

    #[test]
    fn groups_are_forgotten_and_nothing_beside_them() {
        let mut claims = json!({"sub": "1", "groups": ["x"], "realm_access": {"roles": ["y"], "other": 1}, "list": [1]}).as_object().unwrap().clone();
        let groups = ["groups", "realm_access.roles", "list.roles", "absent.roles"].map(|path| ClaimPath::new(path.split('.'))).to_vec();
        ClaimMap { groups, ..ClaimMap::default() }.forget_groups(&mut claims);
        assert_eq!(Value::Object(claims), json!({"sub": "1", "realm_access": {"other": 1}, "list": [1]}));
    }

    #[test]
    fn a_name_may_have_dots() {
        let claims = json!({"sub": "1", "https://corp.example/groups": ["x"], "resource_access": {"my.app": {"roles": ["y"]}}});
        let groups = vec![ClaimPath::new(["https://corp.example/groups"]), ClaimPath::new(["resource_access", "my.app", "roles"])];
        let person = ClaimMap { groups, ..ClaimMap::default() }.person("p", claims.as_object().unwrap()).unwrap();
        assert_eq!(person.groups, ["x", "y"]);
    }

    #[test]
    fn a_person_is_called_by_the_user_claim_or_else_by_the_subject() {
        let person = |claims: Value| ClaimMap::default().person("p", claims.as_object().unwrap());
        let alice = person(json!({"sub": "17", "preferred_username": "alice", "email": "a@x", "name": "Alice"})).unwrap();
        assert_eq!((alice.user.as_str(), alice.subject.as_str(), alice.email.as_deref(), alice.name.as_deref()), ("alice", "17", Some("a@x"), Some("Alice")));
        assert_eq!(person(json!({"sub": "17"})).unwrap().user, "17");
        assert_eq!(person(json!({"sub": "17", "email": "a@x", "email_verified": false})).unwrap().email, None);
        assert_eq!(person(json!({})), Err(ClaimError::Missing("sub".to_owned())));
        assert!(person(json!({"sub": 1})).is_err());
    }
}
