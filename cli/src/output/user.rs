//! Users, a line each.

use super::{Grid, Style, Tone, dash};
use crate::view::{Stamp, UserView};

pub fn users(style: Style, users: &[UserView], now: Stamp) -> String {
    let mut grid = Grid::new(style, &["NAME", "GROUPS", "MAY SIGN IN", "SESSIONS", "ADDED"]);
    for user in users {
        let may = if user.disabled { (Tone::Warn, "no: disabled".to_owned()) } else { (Tone::Good, "yes".to_owned()) };
        let added = user.created_at.map_or_else(|| "-".to_owned(), |t| t.relative(now));
        let groups = dash(&user.groups.join(", ")).to_owned();
        grid.row([(Tone::Strong, user.name.clone()), (Tone::Plain, groups), may, (Tone::Plain, user.sessions.to_string()), (Tone::Plain, added)]);
    }
    grid.finish("no users: weft user add NAME adds one")
}
