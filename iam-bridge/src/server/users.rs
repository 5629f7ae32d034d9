//! `weft.bridge.v1.Users`: users of the local provider, as whoever may open the admin socket changes them.

use std::time::SystemTime;

use tonic::{Request, Response, Status};
use weft_api::bridge::v1 as wire;
use zeroize::Zeroizing;

use crate::provider::{NewUser, SharedProvider, User, UserError, group_change};

pub(super) struct UsersService {
    /// `None`: this bridge runs no provider.
    people: Option<SharedProvider>,
}

impl UsersService {
    pub(super) fn new(people: Option<SharedProvider>) -> Self {
        Self { people }
    }

    fn people(&self) -> Result<&SharedProvider, Status> {
        const NONE: &str = "this bridge runs no identity provider, so it has no users: give its configuration a section [provider]";
        self.people.as_ref().ok_or_else(|| Status::failed_precondition(NONE))
    }
}

#[tonic::async_trait]
impl wire::users_server::Users for UsersService {
    async fn add(&self, request: Request<wire::AddUserRequest>) -> Result<Response<wire::AddUserResponse>, Status> {
        let wire::AddUserRequest { name, groups, password } = request.into_inner();
        let new = NewUser { name, groups, password: given(password) };
        let (user, made) = self.people()?.with(move |p| p.add_user(new, SystemTime::now())).await?;
        let password = made.map_or(String::new(), |p| p.reveal().to_owned());
        Ok(Response::new(wire::AddUserResponse { user: Some(wire_user(user)), password }))
    }

    async fn set_password(&self, request: Request<wire::SetUserPasswordRequest>) -> Result<Response<wire::SetUserPasswordResponse>, Status> {
        let wire::SetUserPasswordRequest { name, password } = request.into_inner();
        let password = given(password);
        let made = self.people()?.with(move |p| p.set_password(&name, password, SystemTime::now())).await?;
        Ok(Response::new(wire::SetUserPasswordResponse { password: made.map_or(String::new(), |p| p.reveal().to_owned()) }))
    }

    async fn set_groups(&self, request: Request<wire::SetUserGroupsRequest>) -> Result<Response<wire::User>, Status> {
        let wire::SetUserGroupsRequest { name, replace, groups, add, remove } = request.into_inner();
        let wanted = group_change(replace.then_some(groups), &add, &remove).map_err(UserError::from)?;
        let user = self.people()?.with(move |p| p.set_groups(&name, wanted, SystemTime::now())).await?;
        Ok(Response::new(wire_user(user)))
    }

    async fn set_disabled(&self, request: Request<wire::SetUserDisabledRequest>) -> Result<Response<wire::SetUserDisabledResponse>, Status> {
        let wire::SetUserDisabledRequest { name, disabled } = request.into_inner();
        self.people()?.with(move |p| p.set_disabled(&name, disabled, SystemTime::now())).await?;
        Ok(Response::new(wire::SetUserDisabledResponse {}))
    }

    async fn remove(&self, request: Request<wire::RemoveUserRequest>) -> Result<Response<wire::RemoveUserResponse>, Status> {
        let name = request.into_inner().name;
        self.people()?.with(move |p| p.remove_user(&name, SystemTime::now())).await?;
        Ok(Response::new(wire::RemoveUserResponse {}))
    }

    async fn list(&self, _: Request<wire::ListUsersRequest>) -> Result<Response<wire::ListUsersResponse>, Status> {
        let users = self.people()?.with(|p| p.list_users(SystemTime::now())).await?;
        Ok(Response::new(wire::ListUsersResponse { users: users.into_iter().map(wire_user).collect() }))
    }
}

/// `None`: the provider makes one.
fn given(password: String) -> Option<Zeroizing<String>> {
    (!password.is_empty()).then(|| Zeroizing::new(password))
}

fn wire_user(user: User) -> wire::User {
    let sessions = u32::try_from(user.sessions).unwrap_or(u32::MAX);
    wire::User { name: user.name, subject: user.subject, groups: user.groups, disabled: user.disabled, created_at: user.created_at, sessions }
}
