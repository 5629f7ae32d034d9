//! Numbers that stand for things on the wire and in kernel tables.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A service, and so its identity, in kernel tables. Given by the IAM bridge, persisted, never used twice; 0 is nobody.
    ServiceId(u32)
}
number! {
    /// One atomic state of the mesh; grows by one with each change. 0: none yet.
    Revision(u64)
}
number! {
    /// A grant, stable while the declaration that makes it is unchanged. 0: no rule.
    RuleId(u32)
}
