//! How the cost of a request grows: with connections, keys, modules, and whatever else a server may have more of.
//!
//! [`sweep`] names the dimensions and their points, [`guest`] writes the modules that they need, [`stage`] is a server
//! that is measured at one point, [`course`] goes through the points of a sweep, [`growth`] is what it finds, and
//! [`report`] tells it: a plot ([`plot`]) and a table for each.

pub mod course;
pub mod growth;
pub mod guest;
pub mod plot;
pub mod report;
pub mod stage;
pub mod sweep;
