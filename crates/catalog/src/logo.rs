//! The portal's logo: a small file beside the Mesh document. It is looked at, because it is served from the host that people sign in at.

use crate::{Logo, LogoKind, limits, read::Drafts, reader::Assets, report::Report};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
/// What makes of a picture a page.
const ACTIVE: [&str; 6] = ["<script", "javascript:", "<foreignobject", "<!entity", "<iframe", "<?xml-stylesheet"];

pub(crate) fn read(drafts: &Drafts, assets: Assets<'_>, report: &mut Report<'_>) -> Option<Logo> {
    let (name, at) = drafts.meshes.first()?.logo.as_ref()?;
    let beside = at.file.rsplit_once('/').map_or(String::new(), |(dir, _)| format!("{dir}/"));
    let path = if name.starts_with('/') { name.clone() } else { format!("{beside}{name}") };
    let logo = assets(&path).and_then(|bytes| judge(name, bytes));
    logo.map_err(|why| report.error(at, format!("logo {name:?}: {why}")).help("name an SVG or PNG file in the catalog's directory")).ok()
}

fn judge(name: &str, bytes: Vec<u8>) -> Result<Logo, String> {
    if bytes.len() > limits::LOGO_MAX_BYTES {
        return Err(format!("it is larger than {} bytes", limits::LOGO_MAX_BYTES));
    }
    let name = name.to_ascii_lowercase();
    if name.ends_with(".png") {
        return if bytes.starts_with(PNG) { Ok(Logo { kind: LogoKind::Png, bytes }) } else { Err("it is no PNG picture".to_owned()) };
    }
    if !name.ends_with(".svg") {
        return Err("its name ends in neither .svg nor .png".to_owned());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned())?.to_ascii_lowercase();
    if !text.contains("<svg") {
        return Err("it is no SVG picture".to_owned());
    }
    let words = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").replace(" =", "=");
    let handler = words.split(' ').any(|word| word.starts_with("on") && word.contains('='));
    match ACTIVE.into_iter().find(|active| text.contains(active)) {
        Some(active) => Err(format!("it holds {active:?}, which no picture needs")),
        None if handler => Err("it holds an event handler, which no picture needs".to_owned()),
        None => Ok(Logo { kind: LogoKind::Svg, bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logo_is_a_picture_and_nothing_else() {
        let svg = |inside: &str| judge("l.svg", format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{inside}</svg>").into_bytes());
        assert_eq!(svg("<path d=\"M0 0\"/>").unwrap().kind, LogoKind::Svg);
        for active in ["<script>x</script>", "<SCRIPT src=x/>", "<a href=\"javascript:x\"/>", "<g onload=\"x\"/>", "<g\nONCLICK = 'x'/>", "<foreignObject/>"] {
            assert!(svg(active).is_err(), "{active}");
        }
        assert_eq!(judge("l.PNG", PNG.to_vec()).unwrap().kind, LogoKind::Png);
        assert!(judge("l.png", b"<svg/>".to_vec()).is_err() && judge("l.svg", PNG.to_vec()).is_err() && judge("l.gif", b"GIF89a".to_vec()).is_err());
        assert!(judge("l.png", [PNG, &[0; limits::LOGO_MAX_BYTES]].concat()).is_err());
    }
}
