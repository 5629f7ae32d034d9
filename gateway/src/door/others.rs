//! What answers on the listeners beside the public one, over plain HTTP.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use weft_http::{Body, Handler, Request};

use super::{Gate, answers, own};

/// Answers the back channel, which only the identity provider's workload reaches.
#[derive(Clone)]
pub struct BackChannel {
    pub gate: Arc<Gate>,
}

impl Handler for BackChannel {
    async fn handle(&self, request: Request) -> Response<Body> {
        if request.head.method != Method::POST || request.head.path.as_str() != own::BACK_CHANNEL {
            return answers::empty(StatusCode::NOT_FOUND);
        }
        let (identity, world) = (self.gate.identities.current(), self.gate.worlds.borrow().clone());
        let (Some(identity), Some(world)) = (identity, world) else { return answers::not_ready(&request.head) };
        own::sign_on(&identity, &world, request, Some(world.portal_host())).await.unwrap_or_else(|| answers::empty(StatusCode::NOT_FOUND))
    }
}

/// Leads from plain HTTP to HTTPS, and does nothing else.
#[derive(Clone)]
pub struct Redirect {
    pub gate: Arc<Gate>,
}

impl Handler for Redirect {
    async fn handle(&self, request: Request) -> Response<Body> {
        let Some(world) = self.gate.worlds.borrow().clone() else { return answers::not_ready(&request.head) };
        let host = request.head.host.name();
        if !world.is_own_host(host) {
            return answers::empty(StatusCode::NOT_FOUND);
        }
        answers::moved(&format!("{}{}", world.origin(host), request.head.path))
    }
}
