mod grid;
mod report;
