//! What happened: decisions of the kernel and of the proxy, put together under the flow's id, and of a gateway; kept in memory and followed live.

mod enrich;
mod record;
mod request;
mod store;

pub use enrich::{Enricher, Known, clock_offset, party, truncate};
pub use record::{Point, Record, Side};
pub use request::RequestRecord;
pub use store::{Filter, Flow, From, Store};
