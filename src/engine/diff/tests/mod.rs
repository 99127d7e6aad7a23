//! Images that differ in one thing, for every thing.

mod documents;
mod entries;
mod hostile;
mod made;
