//! What whoever administers the mesh does with its users. Each change is durable when it returns, and ends what it must end.

use std::{collections::BTreeSet, time::SystemTime};

use thiserror::Error;
use tracing::info;
use zeroize::Zeroizing;

use super::{
    Provider,
    names::{GroupName, NameError, UserName},
    password::{Password, PasswordError},
    random, unix,
};
use crate::{
    limits::provider as limits,
    store::{StoreError, UserRow},
};

/// A user as others may see one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) subject: String,
    pub(crate) groups: Vec<String>,
    pub(crate) disabled: bool,
    /// Unix seconds.
    pub(crate) created_at: i64,
    pub(crate) sessions: usize,
}

pub(crate) struct NewUser {
    pub(crate) name: String,
    pub(crate) groups: Vec<String>,
    /// `None`: the provider makes one.
    pub(crate) password: Option<Zeroizing<String>>,
}

#[derive(Debug, Error)]
pub(crate) enum UserError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("user {0} is there already: weft user passwd gives another password, weft user groups other groups")]
    Exists(String),
    #[error("there is no user {0}: weft user list shows all")]
    Absent(String),
    #[error("there are {max} users, a further one is not kept", max = limits::USERS_MAX)]
    TooManyUsers,
    #[error("user {name} would be in {found} groups, {max} are possible", max = limits::GROUPS_MAX)]
    TooManyGroups { name: String, found: usize },
    #[error("user {name} is not in group {group}")]
    NotIn { name: String, group: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What becomes of somebody's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GroupChange {
    Replace(Vec<GroupName>),
    Change { add: Vec<GroupName>, remove: Vec<GroupName> },
}

/// Reads names of groups.
pub(crate) fn group_change(replace: Option<Vec<String>>, add: &[String], remove: &[String]) -> Result<GroupChange, NameError> {
    let parse = |names: &[String]| names.iter().map(|g| GroupName::parse(g)).collect::<Result<Vec<_>, _>>();
    Ok(match replace {
        Some(groups) => GroupChange::Replace(parse(&groups)?),
        None => GroupChange::Change { add: parse(add)?, remove: parse(remove)? },
    })
}

impl Provider {
    /// Gives the password back if it was made here: it is shown once.
    pub(crate) fn add_user(&mut self, new: NewUser, now: SystemTime) -> Result<(User, Option<Password>), UserError> {
        let name = UserName::parse(&new.name)?;
        let groups = group_change(Some(new.groups), &[], &[])?;
        let (password, generated) = self.password(new.password)?;
        if self.people.user(name.as_str())?.is_some() {
            return Err(UserError::Exists(name.to_string()));
        }
        let row = UserRow {
            groups: apply(name.as_str(), &[], groups)?,
            name: name.to_string(),
            subject: random::id(&mut *self.random),
            password: password.store(&mut *self.random),
            disabled: false,
            created_at: unix(now),
        };
        let change = self.people.change()?;
        if change.count_users()? >= limits::USERS_MAX {
            return Err(UserError::TooManyUsers);
        }
        change.add_user(&row)?;
        change.commit()?;
        info!(target: "weft_audit", event = "user-added", user = row.name, groups = row.groups.join(" "), "user added");
        Ok((shown(row, 0), generated.then_some(password)))
    }

    /// Whoever is logged in with the former password is logged out.
    pub(crate) fn set_password(&mut self, name: &str, password: Option<Zeroizing<String>>, now: SystemTime) -> Result<Option<Password>, UserError> {
        let user = self.known(name)?;
        let (password, generated) = self.password(password)?;
        let stored = password.store(&mut *self.random);
        self.end(&user, now, |change| change.set_password(&user.subject, &stored))?;
        info!(target: "weft_audit", event = "user-password", user = user.name, "user has another password, and no session");
        Ok(generated.then_some(password))
    }

    /// Clients hear of a group that is taken away as of a logout, so that what they allowed for it ends now; the login itself stays, and with it the next
    /// token says the groups that are left.
    pub(crate) fn set_groups(&mut self, name: &str, wanted: GroupChange, now: SystemTime) -> Result<User, UserError> {
        let mut user = self.known(name)?;
        let groups = apply(&user.name, &user.groups, wanted)?;
        let narrowed = user.groups.iter().any(|g| !groups.contains(g));
        let change = self.people.change()?;
        change.set_groups(&user.subject, &groups)?;
        change.commit()?;
        let sessions = self.people.sessions_of(&user.subject)?;
        if narrowed {
            for session in &sessions {
                let logouts = self.logouts_of(session, now)?;
                self.tell(logouts);
            }
        }
        info!(target: "weft_audit", event = "user-groups", user = user.name, groups = groups.join(" "), "user has other groups");
        user.groups = groups;
        Ok(shown(user, sessions.len()))
    }

    /// Whoever is disabled is logged out, and cannot log in until enabled again.
    pub(crate) fn set_disabled(&mut self, name: &str, disabled: bool, now: SystemTime) -> Result<(), UserError> {
        let user = self.known(name)?;
        if disabled {
            self.end(&user, now, |change| change.set_disabled(&user.subject, true))?;
        } else {
            let change = self.people.change()?;
            change.set_disabled(&user.subject, false)?;
            change.commit()?;
        }
        info!(target: "weft_audit", event = if disabled { "user-disabled" } else { "user-enabled" }, user = user.name, "user may {}log in", if disabled { "not " } else { "" });
        Ok(())
    }

    pub(crate) fn remove_user(&mut self, name: &str, now: SystemTime) -> Result<(), UserError> {
        let user = self.known(name)?;
        self.end(&user, now, |change| change.remove_user(&user.subject))?;
        info!(target: "weft_audit", event = "user-removed", user = user.name, "user removed");
        Ok(())
    }

    /// In the order of their names.
    pub(crate) fn list_users(&self, now: SystemTime) -> Result<Vec<User>, UserError> {
        let mut users = Vec::new();
        for row in self.people.users()? {
            let mut sessions = 0;
            for session in self.people.sessions_of(&row.subject)? {
                sessions += usize::from(self.live_sid(&session.sid, now)?.is_some());
            }
            users.push(shown(row, sessions));
        }
        Ok(users)
    }

    fn known(&self, name: &str) -> Result<UserRow, UserError> {
        let name = UserName::parse(name)?;
        self.people.user(name.as_str())?.ok_or_else(|| UserError::Absent(name.to_string()))
    }

    /// Makes a change together with the end of all sessions of a user, and tells their clients.
    fn end(&mut self, user: &UserRow, now: SystemTime, also: impl FnOnce(&crate::store::PeopleChange<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let sessions = self.people.sessions_of(&user.subject)?;
        let mut logouts = Vec::new();
        for session in &sessions {
            logouts.extend(self.logouts_of(session, now)?);
        }
        let change = self.people.change()?;
        for session in &sessions {
            change.remove_session(&session.sid)?;
        }
        also(&change)?;
        change.commit()?;
        self.tell(logouts);
        Ok(())
    }

    /// The password that was given, or one that is made now; true: the latter.
    fn password(&mut self, given: Option<Zeroizing<String>>) -> Result<(Password, bool), PasswordError> {
        match given {
            Some(text) => Ok((Password::new(text)?, false)),
            None => Ok((Password::generate(&mut *self.random), true)),
        }
    }
}

fn apply(name: &str, held: &[String], wanted: GroupChange) -> Result<Vec<String>, UserError> {
    let groups: BTreeSet<String> = match wanted {
        GroupChange::Replace(groups) => groups.iter().map(ToString::to_string).collect(),
        GroupChange::Change { add, remove } => {
            let mut groups: BTreeSet<String> = held.iter().cloned().collect();
            for group in &remove {
                if !groups.remove(group.as_str()) {
                    return Err(UserError::NotIn { name: name.to_owned(), group: group.to_string() });
                }
            }
            groups.extend(add.iter().map(ToString::to_string));
            groups
        }
    };
    if groups.len() > limits::GROUPS_MAX {
        return Err(UserError::TooManyGroups { name: name.to_owned(), found: groups.len() });
    }
    Ok(groups.into_iter().collect())
}

fn shown(row: UserRow, sessions: usize) -> User {
    User { name: row.name, subject: row.subject, groups: row.groups, disabled: row.disabled, created_at: row.created_at, sessions }
}
