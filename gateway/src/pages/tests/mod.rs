//! Pages are read here as browsers read them: what is found out about one is found out of its tree.

mod accessible;
mod dom;
mod escaping;
mod portal;
mod refusals;
mod safety;
mod sessions;
mod style;
mod world;
