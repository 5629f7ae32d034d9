//! Errors as gRPC tells them.

use tonic::Status;
use weft_identity::SignError;

use crate::{
    control::{AdminError, End, PublishError, RequestError},
    provider::UserError,
};

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Self {
        use RequestError as E;
        let text = chain(&error);
        match error {
            E::Token(_) => Self::invalid_argument(text),
            E::ForeignToken(_) | E::UnknownToken(_) | E::ExpiredToken { .. } | E::OtherNode { .. } | E::Placement(_) | E::NotReported { .. } => {
                Self::permission_denied(text)
            }
            E::NotAMember(_) => Self::unauthenticated(text),
            E::TooManyNodes => Self::resource_exhausted(text),
            E::Sign(SignError::TooLarge | SignError::Request(_) | SignError::Algorithm) => Self::invalid_argument(text),
            E::Sign(_) => Self::internal(text),
            E::Publish(error) => publish(&error, text),
        }
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        use AdminError as E;
        let text = chain(&error);
        match error {
            E::TooManyPatterns { .. } | E::TooLong => Self::invalid_argument(text),
            E::TooManyTokens => Self::resource_exhausted(text),
            E::NoSuchNode(_) => Self::not_found(text),
            E::Token(_) => Self::internal(text),
            E::Publish(error) => publish(&error, text),
        }
    }
}

impl From<UserError> for Status {
    fn from(error: UserError) -> Self {
        use UserError as E;
        let text = chain(&error);
        match error {
            E::Name(_) | E::Password(_) => Self::invalid_argument(text),
            E::Exists(_) => Self::already_exists(text),
            E::Absent(_) | E::NotIn { .. } => Self::not_found(text),
            E::TooManyUsers | E::TooManyGroups { .. } => Self::resource_exhausted(text),
            E::Store(_) => Self::unavailable(format!("the bridge cannot keep this now: {text}")),
        }
    }
}

impl From<End> for Status {
    fn from(end: End) -> Self {
        match end {
            End::Replaced => Self::aborted("the node opened another stream"),
            End::Removed => Self::unauthenticated("the node was removed from the mesh: let it join again"),
            End::Stopping => Self::unavailable("the bridge stops"),
        }
    }
}

fn publish(error: &PublishError, text: String) -> Status {
    match error {
        PublishError::Store(_) => Status::unavailable(format!("the bridge cannot keep this now: {text}")),
        PublishError::Bytes { .. } | PublishError::Count { .. } => Status::resource_exhausted(text),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    crate::control::chain(error)
}
