//! `weft lint`: a catalog directory before it is used.

use anyhow::Result;
use serde::Serialize;

use crate::{Context, Outcome, args::LintArgs, output, source::Lint};

#[derive(Serialize)]
struct LintView<'a> {
    errors: usize,
    warnings: usize,
    findings: &'a [crate::source::FindingView],
}

pub(super) fn run(ctx: &Context, args: LintArgs) -> Result<Outcome> {
    let lint = Lint::read(&args.dir)?;
    let view = LintView { errors: lint.errors(), warnings: lint.warnings(), findings: &lint.findings };
    ctx.output.show(&view, |style| output::lint(style, &lint))?;
    Ok(Outcome::findings_if(lint.errors() > 0 || (args.deny_warnings && lint.warnings() > 0)))
}
