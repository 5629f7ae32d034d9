//! What is shown, as plain records: between the wire (`client`) and the page (`output`). Their JSON form is public; docs/cli.md describes it.

mod decision;
mod flow;
mod node;
mod policy;
mod request;
mod route;
mod stamp;
mod user;

pub use decision::{AnswerView, PartyView};
pub use flow::{AskedView, FlowView};
pub use node::{BridgeView, CanaryView, CertView, NodeView, ProgramView, ProofView, WorkloadView};
pub use policy::{PolicyView, PortView, ServiceView};
pub use request::{PersonView, RequestView};
pub use route::{CorsView, RouteView, TileView};
pub use stamp::{Stamp, span};
pub use user::UserView;
