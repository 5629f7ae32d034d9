//! What the portal shows a person: exactly what they may open, by the function that lets them in.

use weft_snapshot::{Bookmark, Route, Service, Shown};
use weft_types::PathKind;

use crate::{Index, Who};

/// One application, or one part of it that has a tile of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile<'a> {
    pub route: &'a Route,
    pub service: &'a Service,
    pub title: &'a str,
    /// In full, to be opened.
    pub url: String,
}

/// What a person does who opens a tile.
const OPENING: &str = "GET";

impl Index {
    /// Sorted by category and title. An exposure with a `portal` of its own is a tile; an application without one is shown by the first exposure, in the
    /// order of paths, that this person may open.
    pub fn portal(&self, who: Who<'_>) -> Vec<Tile<'_>> {
        let Some(gateway) = &self.snapshot().gateway else { return vec![] };
        let own = |id| gateway.routes.iter().any(|r| r.service == id && r.portal.shown == Shown::Own);
        let mut tiles: Vec<Tile<'_>> = vec![];
        for route in gateway.routes.iter().filter(|r| r.portal.shown != Shown::Hidden) {
            let by_default = route.portal.shown == Shown::Default;
            if by_default && (own(route.service) || tiles.iter().any(|t| t.service.id == route.service)) {
                continue;
            }
            tiles.extend(self.tile(route, who));
        }
        tiles.sort_by(|a, b| (&a.route.portal.category, a.title, &a.url).cmp(&(&b.route.portal.category, b.title, &b.url)));
        tiles
    }

    /// What lies outside and is for this person, in the snapshot's order. Nobody who has not signed in sees any.
    pub fn bookmarks(&self, who: Who<'_>) -> Vec<&Bookmark> {
        let Who::Person { groups, .. } = who else { return vec![] };
        let all = self.snapshot().gateway.iter().flat_map(|g| &g.bookmarks);
        all.filter(|b| b.groups.is_empty() || b.groups.iter().any(|group| groups.contains(group))).collect()
    }

    fn tile<'a>(&'a self, route: &'a Route, who: Who<'_>) -> Option<Tile<'a>> {
        let service = self.service(route.service)?;
        if !self.admit(route, who, OPENING).is_allowed() || route.path.kind() == PathKind::Template {
            return None;
        }
        // Another exposure may have the path itself, and leave only what is below it.
        let path = route.path.as_str();
        let leads_here = |path: &str| self.route(route.host.as_str(), path).is_some_and(|r| std::ptr::eq(r, route));
        let path = [path.to_owned(), format!("{path}/")].into_iter().find(|p| leads_here(p))?;
        let url = format!("{}{path}", self.snapshot().gateway.as_ref()?.origin(&route.host));
        let title = if route.portal.title.is_empty() { &service.title } else { &route.portal.title };
        Some(Tile { route, service, title, url })
    }
}
