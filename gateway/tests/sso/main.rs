//! Signing in and out against a real provider over 127.0.0.1, as browsers and programs see it. Every clock is the test's.

mod bearer;
mod browser;
mod client;
mod hostile;
mod login;
mod logout;
mod outage;
mod provider;
mod refresh;
mod world;
