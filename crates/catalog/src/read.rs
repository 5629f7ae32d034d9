//! Documents to drafts: which kind each is, and everything it says by itself. What documents say about each other is `check`'s business.

use std::sync::Arc;

use weft_types::{Label, ServiceRef};

use crate::{
    Team,
    document::{self, Document, ParseError},
    draft::{self, Mesh, Service},
    files::File,
    limits,
    raw::{self, Header, Object},
    report::Report,
    suggest,
};

const API_VERSION: &str = "weft.mesh/v1alpha1";
const KINDS: [&str; 3] = ["MeshService", "Team", "Mesh"];

/// Everything that could be read.
#[derive(Debug, Default)]
pub(crate) struct Drafts {
    pub(crate) meshes: Vec<Mesh>,
    pub(crate) teams: Vec<Team>,
    /// Shared with whoever keeps what was read before.
    pub(crate) services: Vec<Arc<Service>>,
    /// Services whose documents could not be read: references to them are not unknown.
    pub(crate) unread: Vec<ServiceRef>,
    /// A file or document is so broken that not even its name is known: nothing can be called unknown or absent.
    pub(crate) incomplete: bool,
    /// A Mesh document exists, good or bad.
    pub(crate) mesh_seen: bool,
    /// Documents that were read.
    pub(crate) documents: usize,
    /// There were more than may be.
    pub(crate) full: bool,
}

impl Drafts {
    pub(crate) fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().map(|s| &**s)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.meshes.extend_from_slice(&other.meshes);
        self.teams.extend_from_slice(&other.teams);
        self.services.extend_from_slice(&other.services);
        self.unread.extend_from_slice(&other.unread);
        self.incomplete |= other.incomplete;
        self.mesh_seen |= other.mesh_seen;
        self.documents += other.documents;
    }
}

/// Reads one file, of which at most `room` documents still count.
pub(crate) fn read(file: &File, room: usize, report: &mut Report<'_>) -> Drafts {
    let mut drafts = Drafts::default();
    for document in document::documents(file) {
        if drafts.documents == room {
            report.error(&document.beginning(), format!("catalog has more than {} documents", limits::DOCUMENTS_MAX));
            drafts.incomplete = true;
            drafts.full = true;
            break;
        }
        drafts.documents += 1;
        read_one(&document, report, &mut drafts);
    }
    drafts
}

fn read_one(document: &Document<'_>, report: &mut Report<'_>, drafts: &mut Drafts) {
    let header = match document.parse::<Header>() {
        Ok(header) => header,
        Err(e) => {
            drafts.incomplete = true;
            return refuse(report, e);
        }
    };
    let Some(kind) = kind(document, &header, report) else {
        drafts.incomplete = true;
        return;
    };
    match kind {
        "MeshService" => match document.parse::<Object<raw::ServiceSpec>>() {
            Ok(object) => match draft::service(document, object, report) {
                Some(service) => drafts.services.push(Arc::new(service)),
                None => drafts.incomplete = true,
            },
            Err(e) => {
                match name(document) {
                    Some(name) => drafts.unread.push(name),
                    None => drafts.incomplete = true,
                }
                refuse(report, e);
            }
        },
        "Team" => match document.parse::<Object<raw::TeamSpec>>() {
            Ok(object) => match draft::team(document, object, report) {
                Some(team) => drafts.teams.push(team),
                None => drafts.incomplete = true,
            },
            Err(e) => {
                drafts.incomplete = true;
                refuse(report, e);
            }
        },
        _ => {
            drafts.mesh_seen = true;
            match document.parse::<Object<raw::MeshSpec>>() {
                Ok(object) => drafts.meshes.extend(draft::mesh(document, object, report)),
                Err(e) => refuse(report, e),
            }
        }
    }
}

fn kind(document: &Document<'_>, header: &Header, report: &mut Report<'_>) -> Option<&'static str> {
    let Some(version) = &header.api_version else {
        report.error(&document.beginning(), "document has no apiVersion").help(format!("begin it with `apiVersion: {API_VERSION}`"));
        return None;
    };
    if version.value != API_VERSION {
        let at = document.position(version.referenced);
        report.error(&at, format!("apiVersion {:?} is not known", version.value)).help(format!("this version reads {API_VERSION}"));
        return None;
    }
    let Some(kind) = &header.kind else {
        report.error(&document.beginning(), "document has no kind").help(format!("kinds are {}", KINDS.join(", ")));
        return None;
    };
    let known = KINDS.into_iter().find(|k| *k == kind.value);
    if known.is_none() {
        let help = match suggest::closest(&kind.value, KINDS) {
            Some(close) => format!("did you mean {close}?"),
            None => format!("kinds are {}", KINDS.join(", ")),
        };
        report.error(&document.position(kind.referenced), format!("kind {:?} is not known", kind.value)).help(help);
    }
    known
}

fn name(document: &Document<'_>) -> Option<ServiceRef> {
    let metadata = document.parse::<raw::Named>().ok()?.metadata?;
    let namespace: Label = metadata.namespace.as_deref().unwrap_or(draft::DEFAULT_NAMESPACE).parse().ok()?;
    Some(ServiceRef { namespace, name: metadata.name?.parse().ok()? })
}

fn refuse(report: &mut Report<'_>, e: ParseError) {
    report.error(&e.at, e.message).help_if(e.help);
}
