//! Users of the bridge's own identity provider, on the bridge's socket.

use weft_api::bridge::v1::{
    AddUserRequest, ListUsersRequest, RemoveUserRequest, SetUserDisabledRequest, SetUserGroupsRequest, SetUserPasswordRequest, User, users_client::UsersClient,
};
use zeroize::Zeroizing;

use super::{Bridge, ClientError, Program, call};
use crate::view::{Stamp, UserView};

/// What becomes of somebody's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Groups {
    Replace(Vec<String>),
    Change { add: Vec<String>, remove: Vec<String> },
}

impl Bridge {
    /// `password`: `None` has the bridge make one, which it gives back.
    pub async fn add_user(&self, name: &str, groups: Vec<String>, password: Option<Zeroizing<String>>) -> Result<(UserView, Zeroizing<String>), ClientError> {
        let request = AddUserRequest { name: name.to_owned(), groups, password: plain(password) };
        let mut made = call(Program::Bridge, &self.socket, self.users().add(request)).await?;
        let password = Zeroizing::new(std::mem::take(&mut made.password));
        Ok((view(made.user.unwrap_or_default()), password))
    }

    pub async fn set_password(&self, name: &str, password: Option<Zeroizing<String>>) -> Result<Zeroizing<String>, ClientError> {
        let request = SetUserPasswordRequest { name: name.to_owned(), password: plain(password) };
        let made = call(Program::Bridge, &self.socket, self.users().set_password(request)).await?;
        Ok(Zeroizing::new(made.password))
    }

    pub async fn set_groups(&self, name: &str, wanted: Groups) -> Result<UserView, ClientError> {
        let name = name.to_owned();
        let request = match wanted {
            Groups::Replace(groups) => SetUserGroupsRequest { name, replace: true, groups, ..SetUserGroupsRequest::default() },
            Groups::Change { add, remove } => SetUserGroupsRequest { name, add, remove, ..SetUserGroupsRequest::default() },
        };
        call(Program::Bridge, &self.socket, self.users().set_groups(request)).await.map(view)
    }

    pub async fn set_disabled(&self, name: &str, disabled: bool) -> Result<(), ClientError> {
        let request = SetUserDisabledRequest { name: name.to_owned(), disabled };
        call(Program::Bridge, &self.socket, self.users().set_disabled(request)).await.map(drop)
    }

    pub async fn remove_user(&self, name: &str) -> Result<(), ClientError> {
        call(Program::Bridge, &self.socket, self.users().remove(RemoveUserRequest { name: name.to_owned() })).await.map(drop)
    }

    pub async fn list_users(&self) -> Result<Vec<UserView>, ClientError> {
        let list = call(Program::Bridge, &self.socket, self.users().list(ListUsersRequest {})).await?;
        Ok(list.users.into_iter().map(view).collect())
    }

    fn users(&self) -> UsersClient<tonic::transport::Channel> {
        UsersClient::new(self.channel.clone()).max_decoding_message_size(weft_api::limits::MESSAGE_MAX_BYTES)
    }
}

/// The wire's empty password means that one is to be made.
fn plain(password: Option<Zeroizing<String>>) -> String {
    password.map_or(String::new(), |p| p.as_str().to_owned())
}

fn view(user: User) -> UserView {
    let User { name, subject, groups, disabled, created_at, sessions } = user;
    UserView { name, subject, groups, disabled, created_at: Stamp::seconds(created_at), sessions }
}
