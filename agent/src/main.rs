//! `weft-agent`: parse, build, run, drain.

fn main() {}
