//! The page in a real browser: headless Chromium, driven by its DevTools protocol.
//!
//! - `chromium`: the browser; `served`: a server whose reports a test makes; `reports`: those
//! - the others: what the page promises

mod chromium;
mod content;
mod keyboard;
mod list;
mod looks;
mod outage;
mod reports;
mod served;
