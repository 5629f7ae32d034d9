//! Style sheet, script and pictures: embedded in the program, served under names that hold a hash of their content, so that browsers may keep them for ever.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::paths;

/// A file as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Its path is this after [`paths::ASSETS`].
    pub name: String,
    pub bytes: Bytes,
    pub content_type: &'static str,
    /// With its quotes.
    pub etag: String,
}

static STYLE: LazyLock<Asset> = LazyLock::new(|| Asset::of("weft", Type::Css, Bytes::from_static(include_bytes!("../../assets/weft.css"))));
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| Asset::of("weft", Type::JavaScript, Bytes::from_static(include_bytes!("../../assets/weft.js"))));
static ICONS: LazyLock<Asset> = LazyLock::new(|| Asset::of("icons", Type::Svg, Bytes::from_static(include_bytes!("../../assets/icons.svg"))));
static MARK: LazyLock<Asset> = LazyLock::new(|| Asset::of("mark", Type::Svg, Bytes::from_static(include_bytes!("../../assets/mark.svg"))));

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Css,
    JavaScript,
    Svg,
    Png,
}

/// The asset of that name, without what stands before it in the path. A brand's own are found by [`super::Brand::asset`], which asks here too.
pub fn get(name: &str) -> Option<&'static Asset> {
    all().into_iter().find(|asset| asset.name == name)
}

pub(super) fn all() -> [&'static Asset; 4] {
    [style(), script(), icons(), mark()]
}

pub(super) fn style() -> &'static Asset {
    &STYLE
}

pub(super) fn script() -> &'static Asset {
    &SCRIPT
}

pub(super) fn icons() -> &'static Asset {
    &ICONS
}

pub(super) fn mark() -> &'static Asset {
    &MARK
}

impl Asset {
    pub(super) fn of(stem: &str, kind: Type, bytes: Bytes) -> Self {
        let (extension, content_type) = match kind {
            Type::Css => ("css", "text/css; charset=utf-8"),
            Type::JavaScript => ("js", "text/javascript; charset=utf-8"),
            Type::Svg => ("svg", "image/svg+xml"),
            Type::Png => ("png", "image/png"),
        };
        let hash: String = digest::digest(&digest::SHA256, &bytes).as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name: format!("{stem}-{hash}.{extension}"), bytes, content_type, etag: format!("\"{hash}\"") }
    }

    /// The address of it on every host.
    pub fn path(&self) -> String {
        format!("{}{}", paths::ASSETS, self.name)
    }
}
