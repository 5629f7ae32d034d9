//! Bounds of what one page shows, each with its unit, and what happens at the bound.

/// Characters of a search that are looked at; the rest is as if it had not been typed.
pub(super) const QUERY_MAX_CHARS: usize = 200;
/// Groups that are listed in a sentence; of further ones the page says how many there are.
pub(super) const GROUPS_SHOWN_MAX: usize = 12;
/// Teams that can be asked; further ones are not shown, the owner is always the first.
pub(super) const CONTACTS_SHOWN_MAX: usize = 8;
/// Apps that are offered in place of one that does not exist; the others are in the portal.
pub(super) const APPS_OFFERED_MAX: usize = 6;
/// Characters of a browser's name, where it is none that is known.
pub(super) const AGENT_SHOWN_MAX_CHARS: usize = 60;
